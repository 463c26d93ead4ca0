"""Temporal's list filters, narrowed to one tenant: they are parsed, and written anew.

The server's parser knows comments, escapes and quotes that another parser easily reads differently.
So the caller's text is never passed on. It is parsed by a smaller grammar, in which each token has
one meaning, and written anew inside parentheses. Anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from temporal_tenancy.core.errors import TenantMismatch

DEEPEST: Final = 50  # nested parentheses; the server refuses 200
_KEYWORDS: Final = frozenset(
    {
        *("AND", "OR", "NOT", "IN", "BETWEEN", "IS", "NULL", "STARTS_WITH", "TRUE", "FALSE"),
        *("GROUP", "ORDER", "BY", "ASC", "DESC"),
    }
)
_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<name>`[A-Za-z0-9_][A-Za-z0-9_. -]*`)
    | (?P<text>'[^'"`\\\x00-\x1f\x7f\ud800-\udfff]*'|"[^'"`\\\x00-\x1f\x7f\ud800-\udfff]*")
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_@.]))
    | (?P<compare><=|>=|<>|!=|=|<|>)
    | (?P<mark>[(),])
    """,
    re.VERBOSE,
)


def narrowed(query: str | None, tenant_id: str) -> str:
    """Returns a list filter that finds what `query` finds, but only of this tenant.

    The grammar: comparisons of a search attribute with text, a number, TRUE or FALSE (`=` `!=`
    `<>` `<` `<=` `>` `>=`, `[NOT] STARTS_WITH`, `[NOT] IN`, `[NOT] BETWEEN`, `IS [NOT] NULL`),
    joined by AND, OR, NOT and at most 50 nested parentheses, then GROUP BY and ORDER BY. Text
    contains no quotes or backslashes.

    Args:
        query: a filter in the syntax of Temporal's list filters; None or empty finds everything.
        tenant_id: the tenant, a valid id, which needs no escapes.

    Raises:
        TenantMismatch: the filter has anything else in it.
    """
    reader = _Reader(_tokens(query or "", tenant_id), tenant_id)
    where, tail = reader.filter()
    own = f"TenantId = '{tenant_id}'"
    return " ".join([own, *(["AND (", *where, ")"] if where else []), *tail])


@dataclass(frozen=True)
class _Token:
    kind: str  # "name", "value", "compare", or the keyword or mark itself
    text: str  # as it is written anew
    at: int  # position of its first character, from 1


def _tokens(query: str, tenant_id: str) -> list[_Token]:
    tokens = []
    end = 0
    while end < len(query):
        match = _TOKEN.match(query, end)
        if match is None:
            raise _refusal(end + 1, tenant_id)
        at, end = end + 1, match.end()
        kind, text = str(match.lastgroup), match.group()
        if kind == "word" and text.upper() in _KEYWORDS:
            kind = text = text.upper()
        elif kind == "word":
            kind = "name"
        elif kind == "text":
            kind, text = "value", f"'{text[1:-1]}'"
        elif kind == "number":
            kind = "value"
        elif kind == "mark":
            kind = text
        if kind != "space":
            tokens.append(_Token(kind, text, at))
    return tokens


class _Reader:
    """Parser of the tokens of one filter, from left to right."""

    def __init__(self, tokens: Sequence[_Token], tenant_id: str) -> None:
        self._left = list(reversed(tokens))
        self._read: list[str] = []
        self._end = tokens[-1].at + len(tokens[-1].text) if tokens else 1
        self._tenant_id = tenant_id

    def filter(self) -> tuple[list[str], list[str]]:
        """Returns the conditions, and what follows them; raises if anything else is left."""
        if self._next() not in ("", "GROUP", "ORDER"):
            self._conditions()
        where, self._read = self._read, []
        if self._next() == "GROUP":
            self._take("GROUP", "BY", "name")
        if self._next() == "ORDER":
            self._take("ORDER", "BY", "name")
            self._direction()
            while self._next() == ",":
                self._take(",", "name")
                self._direction()
        self._take("")
        return where, self._read

    def _conditions(self) -> None:
        # Without recursion, since the caller chooses how deep the filter is nested.
        depth = 0
        while True:
            while self._next() in ("NOT", "("):
                depth += self._next() == "("
                if depth > DEEPEST:
                    raise self._refusal()
                self._take(self._next())
            self._comparison()
            while depth and self._next() == ")":
                self._take(")")
                depth -= 1
            if self._next() not in ("AND", "OR"):
                break
            self._take(self._next())
        if depth:
            raise self._refusal()

    def _comparison(self) -> None:
        self._take("name")
        if self._next() == "compare":
            self._take("compare")
            self._value()
        elif self._next() == "IS":
            self._take("IS")
            self._negation()
            self._take("NULL")
        else:
            self._negation()
            self._set_or_range()

    def _set_or_range(self) -> None:
        if self._next() == "IN":
            self._take("IN", "(")
            self._value()
            while self._next() == ",":
                self._take(",")
                self._value()
            self._take(")")
        elif self._next() == "BETWEEN":
            self._take("BETWEEN")
            self._value()
            self._take("AND")
            self._value()
        else:
            self._take("STARTS_WITH")
            self._value()

    def _value(self) -> None:
        self._take(self._next() if self._next() in ("TRUE", "FALSE") else "value")

    def _negation(self) -> None:
        if self._next() == "NOT":
            self._take("NOT")

    def _direction(self) -> None:
        if self._next() in ("ASC", "DESC"):
            self._take(self._next())

    def _next(self) -> str:
        """Returns the kind of the next token; empty at the end."""
        return self._left[-1].kind if self._left else ""

    def _take(self, *kinds: str) -> None:
        for kind in kinds:
            if self._next() != kind:
                raise self._refusal()
            if kind:
                self._read.append(self._left.pop().text)

    def _refusal(self) -> TenantMismatch:
        return _refusal(self._left[-1].at if self._left else self._end, self._tenant_id)


def _refusal(at: int, tenant_id: str) -> TenantMismatch:
    return TenantMismatch(
        f"this list filter is not understood from character {at} on, so it cannot be narrowed to "
        f"{tenant_id}. Compare search attributes with values, joined by AND, OR, NOT and "
        "parentheses, and leave quotes and backslashes out of text."
    )

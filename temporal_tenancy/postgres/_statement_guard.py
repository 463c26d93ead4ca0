"""Finds SQL that a tenant's session must not send, by PostgreSQL's own lexical rules.

Such SQL would end the transaction that names the tenant, change the tenant or a limit of the
session, lock a whole table, or affect other sessions. This needs no parser: such statements begin
with their keyword, and functions are called by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

CACHED_VERDICTS: Final = 2_048
CACHED_LENGTH: Final = 8_192  # characters; longer statements are read each time

TRANSACTION: Final = (
    "SQL must not begin or end a transaction in a tenant's session, because the setting that names "
    "the tenant ends with the transaction. Use the session's commit() and rollback()."
)
SETTING: Final = (
    "SQL must not change the tenant, the role, the search_path, the limits or the lexical settings "
    "of a tenant's session. Open a tenant_session(), with limits=SessionLimits(...) for slow work."
)
LOCK: Final = "a table lock blocks every tenant. Lock the tenant's own rows: select ... for update."
ROLE: Final = (
    "a tenant's session must not alter roles, databases or the server. Do it as their owner."
)
CODE: Final = (
    "the session cannot check the statements inside a code block or a function. "
    "Send them one by one, or create the function in a migration."
)
CONNECTION: Final = (
    "a tenant's session must not LISTEN or DISCARD, because its connection belongs to the pool and "
    "channels are shared by all tenants. Leave the statement out."
)
SERVER_FILE: Final = (
    "COPY must not use the server's files or programs in a tenant's session. Use STDIN or STDOUT."
)
REACH: Final = (
    "this function runs SQL that the session cannot check, or ends other sessions. "
    "Send the SQL itself."
)
UNREADABLE: Final = (
    "the session cannot check this statement, because it has a NUL, an unclosed quote or comment, "
    'or a U&"..." name, which the server may read differently. Write it without these.'
)

_PROTECTED: Final = frozenset(
    {
        "all",  # RESET ALL
        "authorization",  # SET SESSION AUTHORIZATION
        "session",
        "session_authorization",
        "role",
        # They decide whose tables a name means.
        "search_path",
        "schema",  # SET SCHEMA
        # Settings that decide how the server reads the next statement.
        "client_encoding",
        "names",
        "standard_conforming_strings",
        "backslash_quote",
    }
)
_PROTECTED_KINDS: Final = re.compile(r"app\.|.*_timeout\Z", re.DOTALL)
_REACHING: Final = frozenset(
    {
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "cursor_to_xml",
        "ts_stat",
        "ts_rewrite",
        # They end any session of the same role, and so any tenant's.
        "pg_terminate_backend",
        "pg_cancel_backend",
    }
)
_SETTER: Final = "set_config"
_SETTINGS_VIEW: Final = "pg_settings"  # an UPDATE of it is a SET
_BY_FIRST_WORD: Final = {
    "begin": TRANSACTION,
    "start": TRANSACTION,
    "commit": TRANSACTION,
    "end": TRANSACTION,
    "abort": TRANSACTION,
    "lock": LOCK,
    "do": CODE,
    "discard": CONNECTION,
    "listen": CONNECTION,
}
_ALTERED: Final = {
    "role": ROLE,
    "user": ROLE,
    "group": ROLE,
    "database": ROLE,
    "system": ROLE,
    "function": CODE,
    "procedure": CODE,
    "routine": CODE,
}
_CREATED: Final = frozenset({"function", "procedure"})

# White space and letters as the server defines them, not Unicode.
_SPACE: Final = r" \t\n\r\f\v"
_LETTER: Final = r"A-Za-z_\x80-\U0010ffff"
_TOKEN: Final = re.compile(
    rf"""
      (?P<space>    [{_SPACE}]+ | --[^\n\r]* )
    | (?P<comment>  /\* )
    | (?P<escaped>  [eE]' )
    | (?P<unicode>  [uU]&" )
    | (?P<word>     [{_LETTER}][{_LETTER}0-9$]* )
    | (?P<quoted>   "(?:[^"]|"")*" )
    | (?P<string>   '(?:[^']|'')*' )
    | (?P<other>    [0-9]+ | \$[0-9]+ )
    | (?P<dollar>   \$(?:[{_LETTER}][{_LETTER}0-9]*)?\$ )
    | (?P<open>     ["'] )
    | (?P<symbol>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_ESCAPED_BODY: Final = re.compile(r"(?:[^'\\]|\\.|'')*'", re.DOTALL)
# A string continues in the next pair of quotes if a newline separates them; the rules of its first
# part apply.
_CONTINUED: Final = re.compile(
    rf"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[{_SPACE}]+|--[^\n\r]*[\n\r])*'", re.DOTALL
)

# The fast path: a single statement with a harmless first word and no suspect text needs no
# tokenizer. Every refused statement has another first word or suspect text somewhere in it.
_HARMLESS: Final = re.compile(
    rf"[{_SPACE}(]*(?:select|insert|update|delete|with|values|savepoint|release)[{_SPACE}(]",
    re.IGNORECASE,
)
_SUSPECT: Final = re.compile(
    "|".join([";", "\0", '[uU]&"', _SETTER, _SETTINGS_VIEW, *sorted(_REACHING)]), re.IGNORECASE
)
# Placeholders as the driver finds them; it replaces them before it sends the statement.
_PLACEHOLDER: Final = re.compile(r"%(?:\([^)]+\).|.)")

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class _Token(NamedTuple):
    kind: str  # "word", "name" (in quotes), "literal", "symbol"
    text: str  # of a word: in lower case; of a name or literal: the text inside the quotes

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text in words

    def names(self, *names: str) -> bool:
        """Whether it is one of `names`, quoted or not, as the name of an object."""
        return self.kind in ("word", "name") and self.text in names


class _Unreadable(Exception):
    """The server may read the statement differently."""


def refusal(statement: str, *, placeholders: bool) -> str | None:
    """Returns why a tenant's session must not send `statement`; None if it may.

    Args:
        statement: one or more statements, separated by semicolons.
        placeholders: whether the driver replaces placeholders in it.
    """
    # SQLAlchemy sends the same text again and again, and the search takes as long as it is.
    if len(statement) > CACHED_LENGTH:
        return _read(statement, placeholders)
    return _read_once(statement, placeholders)


def _read(statement: str, placeholders: bool) -> str | None:
    if _HARMLESS.match(statement) and not _SUSPECT.search(statement):
        return None
    if placeholders:
        statement = _PLACEHOLDER.sub(
            lambda found: "%" if found.group() == "%%" else "$1", statement
        )
    try:
        if "\0" in statement:  # the server reads up to it
            raise _Unreadable
        for tokens in _statements(statement):
            reason = _refused(tokens)
            if reason is not None:
                return reason
    except _Unreadable:
        return UNREADABLE
    return None


_read_once = lru_cache(CACHED_VERDICTS)(_read)


def _statements(text: str) -> Iterator[list[_Token]]:
    tokens: list[_Token] = []
    for token in _tokens(text):
        if token == _Token("symbol", ";"):
            yield tokens
            tokens = []
        else:
            tokens.append(token)
    yield tokens


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None  # the last alternative matches any character
        kind, matched = str(found.lastgroup), found.group()
        at = found.end()
        if kind == "space":
            continue
        if kind == "comment":
            at = _comment_end(text, at)
        elif kind == "escaped":
            at = _escaped_end(text, at)
            yield _Token("other", "")  # not a literal: its escapes are not decoded
        elif kind == "word":
            yield _Token("word", matched.translate(_ASCII_LOWER))
        elif kind == "quoted":
            yield _Token("name", matched[1:-1].replace('""', '"'))
        elif kind == "string":
            yield _Token("literal", matched[1:-1].replace("''", "'"))
        elif kind == "dollar":
            at = text.find(matched, at) + len(matched)
            if at < len(matched):
                raise _Unreadable
            yield _Token("other", "")
        elif kind in ("unicode", "open"):
            raise _Unreadable
        else:
            yield _Token(kind, matched)


def _comment_end(text: str, at: int) -> int:
    """Returns where the comment that is open at `at` ends; comments nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, at)
        if edge is None:
            raise _Unreadable
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def _escaped_end(text: str, at: int) -> int:
    """Returns where the string ends whose opening E' is just before `at`."""
    while True:
        body = _ESCAPED_BODY.match(text, at)
        if body is None:
            raise _Unreadable
        more = _CONTINUED.match(text, body.end())
        if more is None:
            return body.end()
        at = more.end()


def _refused(tokens: Sequence[_Token]) -> str | None:
    begin = 0
    while begin < len(tokens) and tokens[begin] == _Token("symbol", "("):
        begin += 1
    return _refused_command(tokens[begin:]) or _refused_mention(tokens)


def _refused_command(tokens: Sequence[_Token]) -> str | None:
    if not tokens or tokens[0].kind != "word":
        return None
    first, rest = tokens[0].text, tokens[1:]
    if first in _BY_FIRST_WORD:
        return _BY_FIRST_WORD[first]
    if first == "rollback":
        return None if _to_savepoint(rest) else TRANSACTION
    if first == "prepare":
        return TRANSACTION if rest and rest[0].is_word("transaction") else None
    if first in ("set", "reset"):
        return SETTING if _is_protected(_setting(rest)) else None
    if first == "alter":
        return _ALTERED.get(rest[0].text) if rest and rest[0].kind == "word" else None
    if first == "create":
        kinds = [token for token in rest[:3] if not token.is_word("or", "replace")]
        return CODE if kinds and kinds[0].is_word(*_CREATED) else None
    if first == "copy":
        return None if _copies_here(rest) else SERVER_FILE
    return None


def _to_savepoint(rest: Sequence[_Token]) -> bool:
    if rest and rest[0].is_word("work", "transaction"):
        rest = rest[1:]
    return bool(rest) and rest[0].is_word("to")


def _setting(rest: Sequence[_Token]) -> str:
    """Returns the name in SET [SESSION | LOCAL] name ...; empty if there is none."""
    if len(rest) > 1 and rest[0].is_word("session", "local") and rest[1].kind in ("word", "name"):
        rest = rest[1:]
    name = ""
    for token in rest:
        if token.kind not in ("word", "name") and token != _Token("symbol", "."):
            break
        if name and not name.endswith(".") and token.text != ".":
            break
        name += token.text
    return name


def _is_protected(name: str) -> bool:
    name = name.translate(_ASCII_LOWER)  # names of settings ignore case even in quotes
    return not name or name in _PROTECTED or _PROTECTED_KINDS.match(name) is not None


def _copies_here(rest: Sequence[_Token]) -> bool:
    depth = 0
    for token, after in pairwise(rest):
        if token.kind == "symbol":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.is_word("from", "to"):
            return after.is_word("stdin", "stdout")
    return False


def _refused_mention(tokens: Sequence[_Token]) -> str | None:
    for place, token in enumerate(tokens):
        if token.names(*_REACHING):
            return REACH
        if token.names(_SETTER) and not _sets_unprotected(tokens[place + 1 : place + 4]):
            return SETTING
        if token.names(_SETTINGS_VIEW) and any(other.is_word("update") for other in tokens):
            return SETTING
    return None


def _sets_unprotected(call: Sequence[_Token]) -> bool:
    """Whether set_config is called with the name of an unprotected setting, as a simple literal."""
    return (
        len(call) == 3
        and call[0] == _Token("symbol", "(")
        and call[1].kind == "literal"
        and call[2] == _Token("symbol", ",")
        and not _is_protected(call[1].text)
    )

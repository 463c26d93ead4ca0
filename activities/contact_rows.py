"""Checks the rows of a contacts file: which are contacts, and why the others are rejected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from saas.services.addresses import (
    AddressInvalid,
    DomainInvalid,
    ascii_domain,
    normal_address,
    trimmed,
    without_unseen,
)
from saas.services.contact_columns import ERRORS_MARK, EXPORT_MARK, email_column, layout_of
from saas.services.csv_files import Record
from temporal_tenancy.core import original_cell

EMAIL_MAX_CHARACTERS: Final = 254  # RFC 5321, 4.5.3.1, less the angle brackets
LOCAL_PART_MAX_CHARACTERS: Final = 64
FURTHER: Final = "further cells"  # the attribute with the cells beyond the header's columns

# Dot-atoms before the @ (RFC 5322, 3.2.3), a host name of at least two labels after it; letters of
# any script in both (RFC 6531). No quoted local parts, comments or address literals.
_ATOM: Final = r'[^\s\x00-\x20\x7f"(),.:;<>@\[\\\]]+'
_LABEL: Final = r"[^\W_](?:[\w-]*[^\W_])?"
_TOP_LABEL: Final = r"[^\W\d_](?:[\w-]*[^\W_])?"
_is_email: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_TOP_LABEL}").fullmatch
# A faster check that most addresses pass; their normal form is just lower case.
_is_plain_email: Final = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@[a-z0-9]+(?:[.-][a-z0-9]+)*\.[a-z]+"
).fullmatch


class Rejection(NamedTuple):
    """A rejected row."""

    place: int  # among the rows of the same check, from 0
    line: int
    cells: list[str]
    reason: str


Known = tuple[str, ...]
"""A row's cells in the columns `KNOWN`, in that order; "" for an empty or missing cell."""


@dataclass
class CheckedRows:
    """The result of checking consecutive rows: contacts, and rejected rows."""

    contacts: dict[str, Known] = field(default_factory=dict)  # by e-mail
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)  # by e-mail, if any
    created: dict[str, datetime] = field(default_factory=dict)  # by e-mail, from an export
    rejected: list[Rejection] = field(default_factory=list)
    accepted: int = 0  # rows; more than contacts if an e-mail occurs twice


class _Unreadable(ValueError):
    """A cell cannot be read. The message says why."""


class Columns:
    """A file's header: the meaning of each column, and whether this application wrote the file."""

    def __init__(self, header: Sequence[str]) -> None:
        """`header` is the cells of the header row.

        Raises `FileRefused` if it cannot be the header of a contacts file.
        """
        own = 0
        while tuple(map(trimmed, header[own : own + len(ERRORS_MARK)])) == ERRORS_MARK:
            own += len(ERRORS_MARK)
        self._own_columns = own
        self._is_ours = own > 0 or EXPORT_MARK in map(trimmed, header)
        self.header = [original_cell(cell) for cell in header[own:]] if self._is_ours else [*header]
        layout = layout_of(self.header, is_export=EXPORT_MARK in map(trimmed, self.header))
        self.width = len(self.header)
        self._layout = layout
        # `check` appends an empty cell, which stands for columns that the file does not have.
        self._known = itemgetter(*(self.width if at is None else at for at in layout.known))
        self._others = [
            (place, name)
            for place, name in enumerate(layout.names)
            if name and place not in layout.passed_over
        ]

    def check(self, records: Iterable[Record]) -> CheckedRows:
        """Checks consecutive rows. Only the e-mail can reject a row that could be read.

        Blank rows are ignored. Cells missing at the end of a row are empty. If rows share an
        e-mail, the non-empty cells of the later one win.
        """
        checked = CheckedRows()
        contacts, rejected = checked.contacts, checked.rejected
        layout, strip = self._layout, str.strip
        rows = 0
        for line, cells, problem in records:
            if problem is not None:
                rejected.append(Rejection(rows, line, cells, problem))
                rows += 1
                continue
            if self._is_ours:
                cells = [original_cell(cell) for cell in cells[self._own_columns :]]
            row, further = (cells, "") if len(cells) == self.width else self._fitted(cells)
            texts = list(map(strip, row))
            email = texts[layout.email].lower()
            if not _is_plain_email(email) or len(email) > LOCAL_PART_MAX_CHARACTERS:
                if not further and not any(map(without_unseen, row)):
                    continue
                email, reason = _read_email(row[layout.email])
                if reason:
                    rejected.append(Rejection(rows, line, cells, reason))
                    rows += 1
                    continue
            if self._is_ours:
                texts = list(row)
            elif not all(map(str.isascii, texts)):
                texts = list(map(trimmed, row))
            if layout.attributes is not None or layout.created_at is not None:
                try:
                    self._read_own(checked, email, texts)
                except _Unreadable as problem_of_cell:
                    rejected.append(Rejection(rows, line, cells, str(problem_of_cell)))
                    rows += 1
                    continue
            rows += 1
            texts.append("")
            known = self._known(texts)
            if layout.parts_of_name:
                known = (
                    " ".join(filter(None, map(texts.__getitem__, layout.parts_of_name))),
                    *known[1:],
                )
            if email in contacts:
                earlier = contacts[email]
                known = tuple(new or old for old, new in zip(earlier, known, strict=True))
            contacts[email] = known
            if self._others or further:
                attributes = {name: texts[at] for at, name in self._others if texts[at]}
                if further:
                    attributes[FURTHER] = further
                checked.attributes[email] = checked.attributes.get(email, {}) | attributes
        checked.accepted = rows - len(rejected)
        return checked

    def _fitted(self, cells: list[str]) -> tuple[list[str], str]:
        """Returns exactly as many cells as the header has, and the text of any further ones."""
        missing = self.width - len(cells)
        if missing > 0:
            return cells + [""] * missing, ""
        further = ", ".join(filter(None, map(trimmed, cells[self.width :])))
        return cells[: self.width], further

    def _read_own(self, checked: CheckedRows, email: str, texts: Sequence[str]) -> None:
        """Reads the columns that only an export has."""
        layout = self._layout
        if layout.attributes is not None and texts[layout.attributes]:
            attributes = _object(texts[layout.attributes])
            checked.attributes[email] = checked.attributes.get(email, {}) | attributes
        if layout.created_at is not None and (created := _time(texts[layout.created_at])):
            checked.created.setdefault(email, created)


def judge(header: Sequence[str], rows: Sequence[Sequence[str]]) -> float | None:
    """Returns the share of `rows` with an address in the e-mail column, or None without one."""
    place = email_column(header)
    if place is None:
        return None
    filled = [row[place] for row in rows if len(row) > place and row[place].strip()]
    if not filled:
        return 1.0 if not rows else 0.0
    return sum(is_email(trimmed(each).lower()) for each in filled) / len(rows)


def is_email(email: str) -> bool:
    """Returns whether `email`, in its normal form, is a valid mail address."""
    if len(email) > LOCAL_PART_MAX_CHARACTERS and (
        len(email) > EMAIL_MAX_CHARACTERS or email.find("@") > LOCAL_PART_MAX_CHARACTERS
    ):
        return False
    return bool(_is_plain_email(email) or _is_email(email))


def _read_email(cell: str) -> tuple[str, str | None]:
    """Returns an address in its normal form and None, or "" and why it is not an address."""
    text = without_unseen(cell)
    if not text:
        return "", "it has no e-mail"
    try:
        email = normal_address(text) if len(text) <= 4 * EMAIL_MAX_CHARACTERS else ""
        name, _, domain = email.rpartition("@")
        # Some scripts use combining marks, which are not letters; IDNA has checked them.
        if is_email(f"{name}@{ascii_domain(domain)}"):
            return email, None
    except AddressInvalid as error:
        return "", f"its e-mail is not an address: {error}"
    except DomainInvalid:
        pass
    return "", "its e-mail is not an address"


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_number, parse_float=_number)
        json.dumps(found, ensure_ascii=False).encode()  # fails on lone surrogates
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "\\u0000" in text:
        raise _Unreadable("its attributes are not a JSON object, as an export writes them")
    return found


def _no_number(text: str) -> float:
    raise ValueError(text)


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _time(text: str) -> datetime | None:
    """Returns when a contact was added, or None if the cell has no valid time with an offset."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None

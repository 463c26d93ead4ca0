"""Rows of a contacts file: which of them are contacts, and why the others are not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple

from services.csv_files import FileRefused, Record

KNOWN: Final = ("name", "phone", "company", "country")  # columns with a meaning, besides email
COLUMNS_MAX: Final = 500
EMAIL_MAX_CHARACTERS: Final = 254  # RFC 5321, 4.5.3.1, less the angle brackets
LOCAL_PART_MAX_CHARACTERS: Final = 64

# Dot-atoms before the @ (RFC 5322, 3.2.3), a host name of two labels or more behind it; letters of
# any script in both (RFC 6531). No quoted local parts, comments or address literals.
_ATOM: Final = r'[^\s\x00-\x20\x7f"(),.:;<>@\[\\\]]+'
_LABEL: Final = r"[^\W_](?:[\w-]*[^\W_])?"
_TOP_LABEL: Final = r"[^\W\d_](?:[\w-]*[^\W_])?"
_is_email: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_TOP_LABEL}").fullmatch
# Most of them are of these, which is seen in half the time.
_is_plain_email: Final = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@[a-z0-9]+(?:[.-][a-z0-9]+)*\.[a-z]+"
).fullmatch


class Rejection(NamedTuple):
    """A row that is no contact."""

    place: int  # among the rows that were checked with it, from 0
    line: int
    cells: list[str]
    reason: str


Known = tuple[str, ...]
"""What a row has in the columns `KNOWN`, in their order; empty where it says nothing."""


@dataclass
class CheckedRows:
    """Rows that follow each other, each of which is a contact's or rejected."""

    contacts: dict[str, Known] = field(default_factory=dict)  # by e-mail
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)  # by e-mail, if any
    rejected: list[Rejection] = field(default_factory=list)
    accepted: int = 0  # rows; more than contacts where an e-mail comes twice


class Columns:
    """A file's header: which column is what."""

    def __init__(self, header: Sequence[str]) -> None:
        """`header` are its cells.

        Raises `FileRefused` where no contact could be read by it.
        """
        self.names = [cell.strip() for cell in header]
        known = [name.lower() for name in self.names]
        self._refuse(known)
        width = self.width = len(known)
        self._email = known.index("email")
        # One more cell, which is empty, stands for columns that the file does not have.
        places = [known.index(name) if name in known else width for name in KNOWN]
        self._known = itemgetter(*places)
        self._others = [
            (place, self.names[place])
            for place, name in enumerate(known)
            if name and name not in ("email", *KNOWN)
        ]

    def _refuse(self, known: Sequence[str]) -> None:
        named = [name for name in known if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if len(known) > COLUMNS_MAX:
            raise FileRefused(f"the header has {len(known):,} columns; {COLUMNS_MAX} are allowed.")
        if twice:
            raise FileRefused(
                f"the header names a column twice: {', '.join(twice)[:200]}. Rename one of them."
            )
        if "email" not in known:
            raise FileRefused(
                'the header has no column "email". The first line names the columns, such as '
                '"email,name,phone,company,country".'
            )

    def check(self, records: Iterable[Record]) -> CheckedRows:
        """Sorts out rows that follow each other. Only the e-mail decides, once a row is whole.

        Of rows with one e-mail the later one wins, as far as it says something.
        """
        checked = CheckedRows()
        contacts, rejected = checked.contacts, checked.rejected
        place = -1
        for place, (line, cells, problem) in enumerate(records):
            if problem is not None or len(cells) != self.width:
                rejected.append(Rejection(place, line, cells, problem or self._ragged(cells)))
                continue
            texts = list(map(str.strip, cells))
            email = texts[self._email].lower()
            if not is_email(email):
                reason = "its e-mail is not an address" if email else "it has no e-mail"
                rejected.append(Rejection(place, line, cells, reason))
                continue
            texts.append("")
            known = self._known(texts)
            if email in contacts:
                earlier = contacts[email]
                known = tuple(new or old for old, new in zip(earlier, known, strict=True))
            contacts[email] = known
            if self._others:
                said = {name: texts[at] for at, name in self._others if texts[at]}
                checked.attributes[email] = checked.attributes.get(email, {}) | said
        checked.accepted = place + 1 - len(rejected)
        return checked

    def _ragged(self, cells: Sequence[str]) -> str:
        return f"its number of cells is {len(cells):,}, and the header has {self.width:,}"


def is_email(email: str) -> bool:
    """Whether `email`, in lower case, is an address that mail can be sent to."""
    if len(email) > LOCAL_PART_MAX_CHARACTERS and (
        len(email) > EMAIL_MAX_CHARACTERS or email.find("@") > LOCAL_PART_MAX_CHARACTERS
    ):
        return False
    return bool(_is_plain_email(email) or _is_email(email))

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
_is_email: Final = re.compile(
    rf"(?=[^@]{{1,{LOCAL_PART_MAX_CHARACTERS}}}@){_ATOM}(?:\.{_ATOM})*"
    rf"@(?:{_LABEL}\.)+{_TOP_LABEL}"
).fullmatch


class ContactRow(NamedTuple):
    """What a row says of a contact; what it leaves empty is None."""

    email: str
    name: str | None
    phone: str | None
    company: str | None
    country: str | None
    attributes: dict[str, str]


class Rejection(NamedTuple):
    """A row that is no contact."""

    place: int  # among the rows that were checked with it, from 0
    record: Record
    reason: str


@dataclass
class CheckedRows:
    """Rows that follow each other, each of which is a contact's or rejected."""

    contacts: dict[str, ContactRow] = field(default_factory=dict)  # by e-mail
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
        if any("\0" in name for name in known):
            raise FileRefused("the header has NUL bytes: this is no text. Save it as CSV.")
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
        contacts = checked.contacts
        for place, record in enumerate(records):
            cells = record.cells
            reason = record.problem or self._malformed(cells)
            email = "" if reason else cells[self._email].strip().lower()
            if reason is None and (len(email) > EMAIL_MAX_CHARACTERS or not _is_email(email)):
                reason = "its e-mail is not an address" if email else "it has no e-mail"
            if reason is not None:
                checked.rejected.append(Rejection(place, record, reason))
                continue
            name, phone, company, country = self._known([*cells, ""])
            row = ContactRow(
                email,
                name.strip() or None,
                phone.strip() or None,
                company.strip() or None,
                country.strip() or None,
                self._rest(cells),
            )
            earlier = contacts.get(email)
            contacts[email] = row if earlier is None else _merged(earlier, row)
            checked.accepted += 1
        return checked

    def _malformed(self, cells: Sequence[str]) -> str | None:
        if len(cells) != self.width:
            return f"it has {len(cells):,} cells, and the header has {self.width:,}"
        if "\0" in "".join(cells):
            return "it has a NUL byte"
        return None

    def _rest(self, cells: Sequence[str]) -> dict[str, str]:
        return {name: cell for place, name in self._others if (cell := cells[place].strip())}


def _merged(earlier: ContactRow, later: ContactRow) -> ContactRow:
    """What two rows say of one contact, as the upsert would leave it."""
    return ContactRow(
        later.email,
        later.name or earlier.name,
        later.phone or earlier.phone,
        later.company or earlier.company,
        later.country or earlier.country,
        {**earlier.attributes, **later.attributes},
    )

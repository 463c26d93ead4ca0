"""The columns of a contacts file: the names that they go by, and how to recognise our own files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from saas.services.addresses import without_unseen
from saas.services.csv_files import FileRefused
from saas.services.shown import listed
from temporal_tenancy.core import number

EMAIL: Final = "email"
KNOWN: Final = ("name", "phone", "company", "country")  # columns with a meaning, besides email
COLUMNS_MAX: Final = 500
COLUMN_NAME_MAX: Final = 200  # characters

# The marks of files that this application wrote. Only in those is a cell "'+49 …" unescaped to a
# phone number; in any other file the quote is part of the cell.
ERRORS_MARK: Final = ("row", "line", "reason")  # the first columns of an error file
EXPORT_MARK: Final = "contacts_export_1"  # the last column of an export, which is empty
ATTRIBUTES: Final = "attributes"  # in an export, a JSON object
CREATED_AT: Final = "created_at"
UPDATED_AT: Final = "updated_at"

# The names that common contact programs use, without case, spaces and punctuation. If a file has
# several of them, the first in this list counts. Google numbers its columns.
_OTHER_NAMES: Final = {
    EMAIL: (
        *("email", "emailaddress", "mail", "mailaddress", "emailid", "primaryemail", "workemail"),
        *(
            "emailadresse",
            "mailadresse",
            "email1value",
            "email1",
            "contactemail",
            "subscriberemail",
        ),
        *("correoelectronico", "correo", "courriel", "adresseemail", "adressemail", "epost"),
    ),
    "name": ("name", "fullname", "displayname", "contactname", "nombre", "nom"),
    "phone": (
        *("phone", "phonenumber", "telephone", "telephonenumber", "tel", "telefon", "mobilephone"),
        *("mobile", "mobilenumber", "cell", "cellphone", "phone1value", "businessphone"),
    ),
    "company": (
        *("company", "companyname", "organization", "organisation", "organizationname", "firma"),
        *("organization1name", "organisationname"),
    ),
    "country": ("country", "countryname", "countryregion", "land", "pais", "pays"),
}
_FIRST_NAMES: Final = ("firstname", "givenname", "forename", "vorname", "prenom")
_LAST_NAMES: Final = ("lastname", "surname", "familyname", "nachname", "apellidos")
_UNSEEN: Final = re.compile(r"[\W_]+")


class Layout(NamedTuple):
    """Which column of a row holds what, counted from 0."""

    names: list[str]  # of all columns, as attributes are called; empty for a column without a name
    email: int
    known: list[int | None]  # the columns in `KNOWN`
    parts_of_name: list[int]  # first and last name, if there is no column with the full name
    attributes: int | None  # in an export only
    created_at: int | None
    passed_over: frozenset[int]  # columns that are not attributes


def layout_of(header: Sequence[str], *, is_export: bool = False) -> Layout:
    """Returns the layout of a header; raises `FileRefused` if it cannot be one of contacts."""
    names = [_name(cell) for cell in header]
    if len(names) > COLUMNS_MAX:
        raise FileRefused(
            f"the header has {number(len(names), 'column')}; {COLUMNS_MAX} are allowed."
        )
    lower = [name.lower() for name in names]
    keys = [_key(name) for name in names]
    email = _email(names, lower, keys)
    if email is None:
        raise FileRefused(
            'the header has no column "email". The first line names the columns, such as '
            f'"email,name,phone,company,country". {_what_there_is(names)}'
        )
    twice = sorted({names[lower.index(name)] for name in lower if name and lower.count(name) > 1})
    if twice:
        raise FileRefused(f"the header names a column twice: {listed(twice)}. Rename one of them.")
    known = [_place(name, lower, keys) for name in KNOWN]
    parts = [_first(keys, _FIRST_NAMES), _first(keys, _LAST_NAMES)] if known[0] is None else []
    own = {name: lower.index(name) for name in _OWN if is_export and name in lower}
    return Layout(
        names=names,
        email=email,
        known=known,
        parts_of_name=[part for part in parts if part is not None],
        attributes=own.get(ATTRIBUTES),
        created_at=own.get(CREATED_AT),
        passed_over=frozenset(
            {email, *(place for place in known if place is not None), *own.values()}
        ),
    )


_OWN: Final = (ATTRIBUTES, CREATED_AT, UPDATED_AT, EXPORT_MARK)


def email_column(header: Sequence[str]) -> int | None:
    """Returns the column with the e-mail, or None if no column or several could be it."""
    names = [_name(cell) for cell in header]
    try:
        return _email(names, [name.lower() for name in names], list(map(_key, names)))
    except FileRefused:
        return None


def _email(names: Sequence[str], lower: Sequence[str], keys: Sequence[str]) -> int | None:
    if EMAIL in lower:
        return lower.index(EMAIL)
    could_be = [place for place, key in enumerate(keys) if key in _OTHER_NAMES[EMAIL]]
    exact = [place for place in could_be if keys[place] == EMAIL]
    found = exact or could_be
    if len(found) > 1:
        raise FileRefused(
            f"more than one column could be the e-mail: {listed(names[each] for each in found)}. "
            'Rename the right one to "email".'
        )
    return found[0] if found else None


def _place(name: str, lower: Sequence[str], keys: Sequence[str]) -> int | None:
    return lower.index(name) if name in lower else _first(keys, _OTHER_NAMES[name])


def _first(keys: Sequence[str], names: Sequence[str]) -> int | None:
    return next((keys.index(each) for each in names if each in keys), None)


def _name(cell: str) -> str:
    """Returns a column's name on one line, without invisible characters."""
    visible = "".join(
        character if character.isprintable() or character in "\u200c\u200d" else " "
        for character in without_unseen(cell)
    )
    return " ".join(visible.split())[:COLUMN_NAME_MAX]


def _key(name: str) -> str:
    """Returns a column's name as it is looked up: without case, accents, spaces and punctuation."""
    folded = unicodedata.normalize("NFKD", name).casefold()
    return _UNSEEN.sub("", "".join(each for each in folded if not unicodedata.combining(each)))


def _what_there_is(names: Sequence[str]) -> str:
    named = [name for name in names if name]
    return f"It has: {listed(named)}." if named else "It has none with a name."

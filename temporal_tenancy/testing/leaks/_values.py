"""Values for generated rows, as text that PostgreSQL reads into a column of any type."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from temporal_tenancy.testing.leaks._catalogue import Column

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_FIRST_DAY: Final = date(2001, 1, 1)
_VARLENA_HEADER: Final = 4  # bytes, which atttypmod of text and numeric types counts too

# Tried where a check constraint refuses the first value; several of a form, for unique columns.
_USUAL_TEXTS: Final = (
    *("a", "b", "c", "aa", "ab", "A", "AA", "AB", "AAA", "AAB", "USD", "EUR", "en", "de", "en-US"),
    *("US", "DE", "UTC", "0", "1", "x-y", "x_y", "x.y", "{}", "[]", "1.0.0", "text/plain"),
    *(f"200{number}" for number in range(1, 7)),
    *(f"2001-0{number}" for number in range(1, 7)),
    *(f"2001-01-0{number}" for number in range(1, 7)),
    *(f"0{number}:00" for number in range(1, 7)),
    *(f"{letter}@{letter}.example" for letter in "abcdef"),
    *(f"https://example.com/{letter}" for letter in "abcdef"),
    *(f"/{letter}" for letter in "abcdef"),
    *(f"{letter}/y" for letter in "abcdef"),
    *(f"#{number}fffff" for number in range(1, 7)),
    *(f"127.0.0.{number}" for number in range(1, 7)),
    *(f"+1202555012{number}" for number in range(1, 7)),
    *(
        digit * length
        for length in (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 32, 36, 40, 64)
        for digit in "012345"
    ),
    *(f"0000000{digit}-0000-4000-8000-000000000000" for digit in "012345"),
)
_NUMBERS: Final = ("0", "1", "2", "10", "100", "-1", "0.5")
_LITERAL: Final = re.compile(r"'((?:[^']|'')*)'(?:::(?!interval|regclass)|[),\]]|$| )")
_NUMBER: Final = re.compile(r"(?<![\w.'])-?\d+(?:\.\d+)?(?![\w.'])")
_NUMERIC: Final = frozenset(
    {"smallint", "integer", "bigint", "numeric", "real", "double precision", "money", "oid"}
)
_TEXTS: Final = frozenset({"text", "character varying", "character", "name", "citext"})


class Values:
    """Makes values, each a new one where the type has enough of them."""

    def __init__(self) -> None:
        # Random, so that the rows differ from those that are there already.
        self._numbers = itertools.count(uuid.uuid4().int % 1_000_000_000)

    def first(self, column: Column) -> str | None:
        """Returns a value of the column's type; None if it has none to offer."""
        number = next(self._numbers)
        if column.labels:
            return column.labels[0]
        if column.kind in ("c", "m", "p"):
            return None
        base = column.base
        if base.endswith("[]") or base in ("hstore",):
            return "{}" if base.endswith("[]") else ""
        if base in _TEXTS:
            return _text(column, number)
        if base in _NUMERIC:
            return _number(column, number)
        if base in ("bit", "bit varying"):
            length = column.modifier if column.modifier > 0 else 1
            return "1" * length
        day = (_FIRST_DAY + timedelta(number % 9_000)).isoformat()
        clock = str(timedelta(seconds=number % 86_400)).rjust(8, "0")
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        small = number % 1_000_000
        made = {
            "boolean": "false",
            "uuid": str(uuid.uuid4()),
            "date": day,
            "timestamp without time zone": f"{day} {clock}",
            "timestamp with time zone": f"{day} {clock}+00",
            "time without time zone": clock,
            "time with time zone": f"{clock}+00",
            "interval": f"{small} seconds",
            "json": f'{{"n": {number}}}',
            "jsonb": f'{{"n": {number}}}',
            "bytea": f"\\x{number:016x}",
            "inet": address,
            "cidr": f"{address}/32",
            "macaddr": ":".join(re.findall("..", f"{number:012x}")),
            "macaddr8": ":".join(re.findall("..", f"{number:016x}")),
            "int4range": f"[{small},{small + 1})",
            "int8range": f"[{small},{small + 1})",
            "numrange": f"[{small},{small + 1})",
            "daterange": f"[{day},{day}]",
            "tsrange": f"[{day} {clock},{day} {clock}]",
            "tstzrange": f"[{day} {clock}+00,{day} {clock}+00]",
            "tsvector": f"w{number}",
            "tsquery": f"w{number}",
            "xml": f"<n>{number}</n>",
            "point": f"({small},{small})",
            "ltree": f"n{number}",
            "pg_lsn": f"0/{number:X}",
        }
        return made.get(base)


def others(column: Column, expression: str, tenant: str) -> Iterator[str | None]:
    """Yields further values, for a check constraint with this expression."""
    if not column.is_required:
        yield None
    if column.labels:
        yield from column.labels
        return
    if column.base == "boolean":
        yield from ("true", "false")
        return
    literals = [text.replace("''", "'") for text in _LITERAL.findall(expression)]
    numbers = _NUMBER.findall(expression)
    if column.base in _TEXTS:
        yield from literals
        yield from _USUAL_TEXTS
        yield from ("a" * min(int(number), 1_000) for number in numbers if number.isdecimal())
        for letter in "abcdef":
            yield from (f"{tenant}/{letter}", f"{tenant}/a/{letter}", f"{tenant}:{letter}")
            yield from (f"{tenant}-{letter}", f"{tenant}_{letter}")
        yield tenant
    elif column.base in _NUMERIC:
        for number in [*numbers, *_NUMBERS]:
            if column.base in ("numeric", "real", "double precision", "money"):
                yield number
            elif "." not in number:
                yield from (number, str(int(number) + 1), str(int(number) - 1))
    elif column.base in ("json", "jsonb"):
        yield from ("{}", "[]", "null", '""', "1", '["a"]', '{"a": 1}')
    elif column.base == "bytea":
        lengths = [int(number) for number in numbers if number.isdecimal()]
        for length in (*lengths, 0, 16, 32, 64):
            if length < 1_000:
                yield from ("\\x" + f"0{digit}" * length for digit in range(6))
    elif column.base.endswith("[]"):
        yield from (f"{{{literal}}}" for literal in literals if "," not in literal)
        yield from ("{a}", "{1}", "{}")
    elif column.base.startswith(("date", "timestamp")):
        yield from literals
        yield from ("2001-01-01", "2020-01-01", "2099-12-31", "infinity")
    else:
        yield from literals


def of_any_type(column: Column) -> Iterator[str]:
    """Yields what types read that have no values here: ranges, composite types, extensions'."""
    yield from ("empty", "{}", "", "0", "1", "$", "a", "(0,0)", "<(0,0),1>", "{1,1,0}")
    yield from ("[(0,0),(1,1)]", "((0,0),(1,1))", "0:0:0", "{}:{}", "[]", "public")
    yield from (f"({',' * commas})" for commas in range(24))
    yield f"[{','.join('1' * max(column.modifier, 1))}]"  # a vector
    yield "POINT(0 0)"


def of_partition(bound: str) -> Iterator[str]:
    """Yields the values in a partition's bounds that rows of it may have."""
    for text in re.findall(r"'((?:[^']|'')*)'|(-?\d+(?:\.\d+)?)", bound.partition(" TO ")[0]):
        yield (text[0] or text[1]).replace("''", "'")


def _text(column: Column, number: int) -> str:
    made = f"{column.name}-{number}"
    length = column.modifier - _VARLENA_HEADER if column.modifier > 0 else None
    if column.base == "name":
        length = 63
    if length is None or len(made) <= length:
        return made
    short = ""
    while len(short) < length:
        number, digit = divmod(number, len(_DIGITS))
        short = _DIGITS[digit] + short
    return short


def _number(column: Column, number: int) -> str:
    if column.base == "smallint":
        return str(1 + number % 32_000)
    if column.base == "numeric" and column.modifier > 0:
        precision, scale = divmod(column.modifier - _VARLENA_HEADER, 65_536)
        whole = max(precision - (scale & 0x7FF), 0)
        return str(number % 10**whole)
    if column.base in ("integer", "real", "money"):
        return str(1 + number % 1_000_000)
    return str(number)

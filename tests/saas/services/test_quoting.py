"""A row read chunk by chunk equals the csv module's, where that can read it."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from saas.services.delimiters import Dialect
from saas.services.quoting import RecordScanner

TEXT = st.text(st.sampled_from('",;\r\n \tab'), max_size=30)
DIALECTS = st.sampled_from([Dialect(","), Dialect(";"), Dialect("\t"), Dialect(",", True)])


def by_module(text: str, dialect: Dialect) -> tuple[list[str], int] | None:
    """Returns the first row and its number of lines; None if it is not a row."""
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, strict=True, **dialect.options)
    try:
        row = next(reader)
    except (csv.Error, StopIteration):
        return None
    return row, reader.line_num


def by_scanner(text: str, dialect: Dialect) -> tuple[list[str], int] | None:
    scanner = RecordScanner(dialect, 1_000)
    lines = io.StringIO(text, newline="").readlines()
    for number, line in enumerate(lines, start=1):
        if scanner.feed(line) or (number == len(lines) and scanner.may_end):
            return (scanner.cells(), number) if not scanner.is_misquoted else None
    return None


@given(text=TEXT, dialect=DIALECTS)
def test_it_reads_what_the_csv_module_reads(text: str, dialect: Dialect) -> None:
    expected = by_module(text, dialect)
    if expected is not None and expected[0]:
        assert by_scanner(text, dialect) == expected


@given(text=TEXT, dialect=DIALECTS, cut=st.integers(1, 5))
def test_it_ends_where_it_ends_wherever_the_text_is_cut(
    text: str, dialect: Dialect, cut: int
) -> None:
    whole, parts = RecordScanner(dialect, 1_000), RecordScanner(dialect, 1_000)
    line = text.replace("\r", "").replace("\n", "") + "\n"
    ended = [parts.feed(line[start : start + cut]) for start in range(0, len(line), cut)]
    assert whole.feed(line) == ended[-1]
    assert (whole.is_misquoted, whole.cells()) == (parts.is_misquoted, parts.cells())
    assert not any(ended[:-1])


def test_what_is_longer_than_is_kept_is_not_kept() -> None:
    scanner = RecordScanner(Dialect(), 100)
    scanner.feed('"')
    for _ in range(1_000):
        scanner.feed("x" * 90 + ',""')
    assert sum(map(len, scanner.cells())) <= 100
    assert not scanner.may_end

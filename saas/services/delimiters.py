"""Detects a file's delimiter: the one named in Excel's first line, or the one that fits best."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple, TypedDict

DELIMITERS: Final = (",", ";", "\t", "|")  # the first is the default
HINT: Final = re.compile(  # a line that Excel obeys and does not show
    r'[\s\ufeff]*"?sep=(?P<delimiter>[^\w\s"]|\t| )"?[,;\t|]*[\r\n]*', re.IGNORECASE
)
_SPACED_QUOTE: Final = re.compile(r'(^|[,;\t|]) +"')
_ROWS: Final = 100

Judge = Callable[[Sequence[str], Sequence[Sequence[str]]], float | None]
"""Takes a header and rows; returns how well they fit, 0 to 1, or None if it is not a header."""


class _Options(TypedDict):
    delimiter: str
    skipinitialspace: bool


class Dialect(NamedTuple):
    """How the cells of a file are separated."""

    delimiter: str = DELIMITERS[0]
    skips_blanks: bool = False  # whether spaces before an opening quote are skipped

    @property
    def options(self) -> _Options:
        """Options for the csv module."""
        return {"delimiter": self.delimiter, "skipinitialspace": self.skips_blanks}

    def __str__(self) -> str:
        return f"{self.delimiter} " if self.skips_blanks else self.delimiter

    @classmethod
    def of(cls, text: str) -> Dialect:
        """Returns the dialect that `str` turned into `text`."""
        return cls(text[0], len(text) > 1)


class _Verdict(NamedTuple):
    """How well a dialect fits; greater is better."""

    is_header: bool
    fit: float  # of the rows to the header
    agreement: float  # share of the rows with as many cells as the header
    columns: int
    order: int


def choose_dialect(
    lines: Sequence[str], judge: Judge, *, delimiters: Iterable[str] = DELIMITERS
) -> Dialect:
    """Returns the dialect in which the lines best make a header with fitting rows."""
    spaced = (False, True) if any(map(_SPACED_QUOTE.search, lines)) else (False,)
    dialects = [Dialect(delimiter, skips) for skips in spaced for delimiter in delimiters]
    verdicts = [(_judged(lines, one, judge, -n), one) for n, one in enumerate(dialects)]
    return max(verdicts)[1]


def _judged(lines: Sequence[str], dialect: Dialect, judge: Judge, order: int) -> _Verdict:
    header, *rows = [row for row in _rows(lines, dialect) if any(map(str.strip, row))] or [[]]
    fit = judge(header, rows)
    widths = Counter(len(row) for row in rows)
    agreement = widths[len(header)] / len(rows) if rows else 1.0
    if len(header) < 2 and fit is None:
        agreement = 0.0
    return _Verdict(
        fit is not None, fit or 0.0, agreement, len(header) if fit is None else 0, order
    )


def _rows(lines: Sequence[str], dialect: Dialect) -> list[list[str]]:
    found: list[list[str]] = []
    with suppress(csv.Error):  # a cell is too long
        found.extend(islice(csv.reader(lines, **dialect.options), _ROWS))
    return found

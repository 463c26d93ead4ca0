"""What separates the cells of a file: as Excel's first line says, or as its rows agree best."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple, TypedDict

DELIMITERS: Final = (",", ";", "\t", "|")  # the first where nothing speaks for another
HINT: Final = re.compile(  # which Excel reads, and leaves out
    r'[\s\ufeff]*"?sep=(?P<delimiter>[^\w\s"]|\t| )"?[,;\t|]*[\r\n]*', re.IGNORECASE
)
_SPACED_QUOTE: Final = re.compile(r'(^|[,;\t|]) +"')
_ROWS: Final = 100

Judge = Callable[[Sequence[str], Sequence[Sequence[str]]], float | None]
"""How well rows fit a header, 0 to 1; None where it is no header that is looked for."""


class _Options(TypedDict):
    delimiter: str
    skipinitialspace: bool


class Dialect(NamedTuple):
    """How the cells of a file are separated."""

    delimiter: str = DELIMITERS[0]
    skips_blanks: bool = False  # those before a quote that opens a cell

    @property
    def options(self) -> _Options:
        """As the csv module takes them."""
        return {"delimiter": self.delimiter, "skipinitialspace": self.skips_blanks}

    def __str__(self) -> str:
        return f"{self.delimiter} " if self.skips_blanks else self.delimiter

    @classmethod
    def of(cls, text: str) -> Dialect:
        """The one that `str` has made a text of."""
        return cls(text[0], len(text) > 1)


class _Verdict(NamedTuple):
    """The greater, the better."""

    is_header: bool
    fit: float  # of the rows to the header
    agreement: float  # of the rows' numbers of cells with the header's
    columns: int
    order: int


def choose_dialect(
    lines: Sequence[str], judge: Judge, *, delimiters: Iterable[str] = DELIMITERS
) -> Dialect:
    """The dialect in which the first lines are a header with rows that fit it."""
    spaced = (False, True) if any(map(_SPACED_QUOTE.search, lines)) else (False,)
    dialects = [Dialect(each, skips) for skips in spaced for each in delimiters]
    verdicts = [(_judged(lines, each, judge, -n), each) for n, each in enumerate(dialects)]
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
    with suppress(csv.Error):  # a cell is too long to be one
        found.extend(islice(csv.reader(lines, **dialect.options), _ROWS))
    return found

"""Writes CSV in which no spreadsheet finds a formula, whatever delimiter it splits at.

Every cell is quoted, and `'` precedes anything that a spreadsheet would take for a formula: at the
start of a cell, and inside a cell after any character that might be taken for the end of one.
Quotes alone are not enough: a reader that splits at `;` respects them only at the start of its own
cells, so that it reads the line `"1","bad;=1+2"` as the two cells `1,"bad` and `=1+2"`.

`original_cell` removes exactly what `safe_cell` added, so that our own files can be read back.
Follows OWASP's advice on CSV injection.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

MARK: Final = "'"

# Japanese and Chinese spreadsheets also take the full-width forms for formulas.
_FORMULA: Final = "=+\\-@＝＋－＠"
_ENDS: Final = ";|\t\r\n"  # what ends a cell for readers that split at another character
# What a spreadsheet may strip before it looks for a formula. The mark is included: a cell that
# already has a mark gets another one, so that `original_cell` never removes a mark of the cell's.
# Blanks, quotes, controls, and what is not seen: formats, fillers and selectors of variants.
_UNSEEN: Final = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    r"\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_BEFORE: Final = rf"""(?:(?![;|\t\r\n])[\s"'{_UNSEEN}])*"""
_PLACES: Final = (
    rf"(?:\A(?={{mark}}{_BEFORE}[{_FORMULA}\t\r\n])"
    rf"|(?<=[{_ENDS}])(?={{mark}}{_BEFORE}[{_FORMULA}]))"
)
_UNMARKED: Final = re.compile(_PLACES.format(mark=""))
_MARKED: Final = re.compile(_PLACES.format(mark=MARK) + MARK)


def safe_cell(value: str) -> str:
    """Returns `value` with `MARK` before each place where a formula could begin.

    For text only: a marked number would become text.
    """
    return _UNMARKED.sub(MARK, value)


def original_cell(value: str) -> str:
    """Returns the text that `safe_cell` turned into `value`."""
    return _MARKED.sub("", value)


def quoted_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Returns rows as RFC 4180 CSV: every cell quoted, text made safe, and None empty."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
        [safe_cell(value) if isinstance(value, str) else value for value in row] for row in rows
    )
    return text.getvalue()

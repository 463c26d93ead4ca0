"""CSV that a spreadsheet shows as it is, whatever character it splits at: none of it is computed.

Every cell is quoted, and `'` stands before whatever a spreadsheet would take for a formula: at the
beginning of a cell, and inside it behind what might be taken for the end of one. Quotes alone are
not enough. A reader that splits at `;` heeds them at the beginning of its own cells only, so that
of the line `"1","bad;=1+2"` it makes the two cells `1,"bad` and `=1+2"`.

`original_cell` takes away exactly what `safe_cell` put in, so that our own files can be read back.
After OWASP's advice on CSV injection.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

MARK: Final = "'"

# Full-width forms are formulas too, where the spreadsheet is a Japanese or Chinese one.
_FORMULA: Final = "=+\\-@＝＋－＠"
_ENDS: Final = ";|\t\r\n"  # what ends a cell for readers that split elsewhere than we do
# What a spreadsheet may take off before it looks. The mark itself is among them: what has one where
# it would be put gets another, and so none is taken for ours that is not.
_BEFORE: Final = r"""(?:(?![;|\t\r\n])[\s"'\x00-\x1f\u200b-\u200f\u2060\ufeff])*"""
_PLACES: Final = (
    rf"(?:\A(?={{mark}}{_BEFORE}[{_FORMULA}\t\r\n])"
    rf"|(?<=[{_ENDS}])(?={{mark}}{_BEFORE}[{_FORMULA}]))"
)
_UNMARKED: Final = re.compile(_PLACES.format(mark=""))
_MARKED: Final = re.compile(_PLACES.format(mark=MARK) + MARK)


def safe_cell(value: str) -> str:
    """Returns `value` with `MARK` wherever a formula could begin in it.

    For text only: a number stays one without it.
    """
    return _UNMARKED.sub(MARK, value)


def original_cell(value: str) -> str:
    """Returns what `safe_cell` was given for `value`."""
    return _MARKED.sub("", value)


def quoted_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Returns rows as CSV by RFC 4180, every cell in quotes; None is empty. Text is to be safe."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()

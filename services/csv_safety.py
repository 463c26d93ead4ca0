"""Cells that a spreadsheet shows as they are, and does not take for formulas.

After OWASP's advice on CSV injection. Quoting, as RFC 4180 has it, does not help: a spreadsheet
takes the quotes off first.
"""

from __future__ import annotations

from typing import Final

# Full-width forms are formulas too, where the spreadsheet is a Japanese or Chinese one.
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe_cell(value: str) -> str:
    """Returns `value`, with a quote before it where a spreadsheet would take it for a formula.

    Blanks before what makes it one do not hide it. For text only: a number stays one without it.
    """
    if value.startswith(_DANGEROUS) or value.lstrip().startswith(_DANGEROUS):
        return f"'{value}"
    return value

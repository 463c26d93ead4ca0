"""Cells of a CSV file that a spreadsheet must not take for formulas."""

from __future__ import annotations

import pytest

from services.csv_safety import safe_cell


@pytest.mark.parametrize(
    "dangerous",
    [
        "=1+1",
        '=HYPERLINK("http://evil.example","pay here")',
        "+1",
        "-1+cmd|' /C calc'!A0",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\u00a0=1",
        "＝1",
        "＋1",
        "－1",
        "＠SUM(A1)",
    ],
)
def test_what_a_spreadsheet_would_compute_is_shown_as_text(dangerous: str) -> None:
    assert safe_cell(dangerous) == f"'{dangerous}"


@pytest.mark.parametrize("plain", ["", "ann@acme.example", "a=b", "1-2", "O'Neill", "Ærø", " x"])
def test_what_is_plain_text_stays_as_it_is(plain: str) -> None:
    assert safe_cell(plain) == plain

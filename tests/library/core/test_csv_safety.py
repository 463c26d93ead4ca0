"""CSV cells that a spreadsheet must not take for formulas."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from temporal_tenancy.core.csv_safety import original_cell, quoted_rows, safe_cell

FORMULA = tuple("=+-@＝＋－＠")
SEPARATORS = (",", ";", "\t", "|")

# Mostly the characters that matter here; cells of others hold none of them.
cells = st.one_of(
    st.text(st.sampled_from([*FORMULA, *SEPARATORS, *"'\" \r\n1a\u00a0\ufeff\x0b"]), max_size=12),
    st.text(max_size=30),
)


@pytest.mark.parametrize(
    "dangerous",
    [
        "=1+1",
        '=HYPERLINK("http://evil.example","pay here")',
        "+1",
        "-1+cmd|' /C calc'!A0",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\nx",
        "  =1",
        "\u00a0=1",
        "\ufeff=1",
        "\x0b=1",
        "＝1",
        "＋1",
        "－1",
        "＠SUM(A1)",
        "'=1",
        '"=1',
    ],
)
def test_what_a_spreadsheet_would_compute_is_shown_as_text(dangerous: str) -> None:
    assert safe_cell(dangerous) == f"'{dangerous}"


@pytest.mark.parametrize(
    ("dangerous", "safe"),
    [
        ("bad;=1+2", "bad;'=1+2"),
        ("bad; =1+2;x", "bad;' =1+2;x"),
        ("bad\t@x", "bad\t'@x"),
        ("bad|-1", "bad|'-1"),
        ("bad\r\n=1", "bad\r\n'=1"),
        ("\t=1", "'\t'=1"),
        (";;=1", ";;'=1"),
        ("a;'=1", "a;''=1"),
    ],
)
def test_a_formula_behind_what_another_reader_splits_at_is_text_too(
    dangerous: str, safe: str
) -> None:
    assert safe_cell(dangerous) == safe


@pytest.mark.parametrize(
    "plain",
    ["", "ann@acme.example", "a=b", "1-2", "O'Neill", "Ærø", " x", "'x'", "a, -b", "a;b", "a\r\nb"],
)
def test_what_is_plain_text_stays_as_it_is(plain: str) -> None:
    assert safe_cell(plain) == plain
    assert original_cell(plain) == plain


@given(cells)
@example("'=1")
@example("''\t'=1;'''@")
def test_what_was_made_safe_is_read_back_exactly(value: str) -> None:
    assert original_cell(safe_cell(value)) == value


@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4))
@example([["1", "bad;=1+2;x"]])
def test_our_file_holds_its_cells_for_who_splits_at_commas(rows: list[list[str]]) -> None:
    written = quoted_rows(rows)
    read = csv.reader(io.StringIO(written, newline=""))
    assert [[original_cell(cell) for cell in row] for row in read] == rows


@given(
    st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from(SEPARATORS),
)
@example([["1", "bad;=1+2;x"]], ";")
@example([["1", "bad\n=1+2"]], ";")
@example([["1", "a", 'b\t "=1']], "\t")
def test_no_cell_is_a_formula_wherever_a_reader_splits(
    rows: list[list[str]], separator: str
) -> None:
    """Also for a reader that ignores quotes and reads line by line."""
    written = quoted_rows(rows)
    seen = [
        cell
        for row in csv.reader(io.StringIO(written, newline=""), delimiter=separator)
        for cell in row
    ]
    if separator != ",":  # the quotes work where the separator is ours
        seen += re.split(rf"[\r\n{re.escape(separator)}]", written)
    for cell in seen:
        assert not cell.lstrip().startswith(FORMULA), cell
        assert not cell.strip().lstrip('"').lstrip().startswith(FORMULA), cell


def test_every_cell_is_quoted() -> None:
    assert quoted_rows([["a", 'b"c', None, -5]]) == '"a","b""c","","-5"\r\n'


def test_nothing_that_is_not_seen_hides_a_formula() -> None:
    unseen = [
        chr(code)
        for code in (*range(0x3000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0200))
        if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zs", "Zl", "Zp"}
    ]
    assert len(unseen) > 150
    for each in (*unseen, "\u034f", "\u3164", "\ufe0f", "\U000e0100"):
        hidden = f"{each}=1+1"
        assert safe_cell(hidden).startswith("'"), ascii(each)
        assert original_cell(safe_cell(hidden)) == hidden

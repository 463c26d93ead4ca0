"""What a terminal shows: nothing that is copied is broken, and lines break between words."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from processes.cli.program import PROGRAM
from temporal_tenancy.cli import use_program
from temporal_tenancy.cli._layout import width_of, words_of, wrapped
from temporal_tenancy.cli.answers import address, facts, sentence, table, whole
from temporal_tenancy.core.display import printable

ID = "0198a1b2-0000-7000-8000-00000000000a"
TENANT = "t" * 63
WORKFLOW_ID = f"{TENANT}/area.verb/{'k' * 80} with a blank and {'k' * 40}"
WIDTHS = (40, 80, 200)


def shown(renderable: RenderableType, width: int) -> list[str]:
    """Returns the lines that a terminal of `width` columns gets."""
    console = Console(width=width, file=StringIO(), highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return [line.rstrip() for line in capture.get().splitlines()]


# Wide characters, marks without a width, control characters, blanks, quotation marks.
TEXTS = st.text(st.sampled_from("abc  \t\n\x1b\u202e日本é́‍👩\"'{}-/"), max_size=120)
IDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)


@given(st.lists(st.tuples(IDS, TEXTS, IDS, TEXTS), min_size=1, max_size=4), st.sampled_from(WIDTHS))
def test_no_word_of_a_table_is_broken_or_lost_and_a_line_is_too_long_for_one_word_alone(
    rows: list[tuple[str, str, str, str]], width: int
) -> None:
    lines = shown(table(("tenant", "why", "key", ""), rows), width)
    text = "\n".join(lines)
    for cell in (cell for row in rows for cell in row):
        for word in words_of(printable(cell)):
            assert word in text
    for line in lines:
        assert width_of(line) <= width or len(words_of(line.strip())) == 1, line


@given(st.lists(st.tuples(IDS, TEXTS), min_size=1, max_size=4), st.sampled_from(WIDTHS))
def test_no_word_of_a_fact_is_broken_or_lost(pairs: list[tuple[str, str]], width: int) -> None:
    lines = shown(facts(pairs), width)
    for word in (word for _, value in pairs for word in words_of(printable(value))):
        assert any(word in line for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "renderable",
    [
        table(("workflow", "why"), [(whole(WORKFLOW_ID), "because " * 30)]),
        facts([("workflow", whole(WORKFLOW_ID)), ("why", "because " * 30)]),
        sentence(whole(WORKFLOW_ID), "is running already."),
        address("http://ui.example/run", whole(WORKFLOW_ID), "running"),
    ],
    ids=["table", "facts", "sentence", "address"],
)
def test_an_id_with_blanks_stays_on_one_line(renderable: RenderableType, width: int) -> None:
    assert any(WORKFLOW_ID in line for line in shown(renderable, width))


ROW = (ID, "ua", "billing.cycle", "open", "UsageNotBillable", "3fbd2c8a7e1f", "2013-05-01 06:00Z")
TITLES = ("id", "tenant", "job", "status", "error", "fingerprint", "failed")


def test_a_table_that_is_too_wide_continues_each_row_on_a_line_of_its_own() -> None:
    assert shown(table(TITLES, [ROW, ROW]), 80) == [
        "id                                    tenant  job            status",
        "  error             fingerprint   failed",
        "0198a1b2-0000-7000-8000-00000000000a  ua      billing.cycle  open",
        "  UsageNotBillable  3fbd2c8a7e1f  2013-05-01 06:00Z",
        "0198a1b2-0000-7000-8000-00000000000a  ua      billing.cycle  open",
        "  UsageNotBillable  3fbd2c8a7e1f  2013-05-01 06:00Z",
    ]
    assert len(shown(table(TITLES, [ROW, ROW]), 200)) == 3


def test_rows_whose_ids_leave_no_room_for_an_indent_are_apart() -> None:
    rows = [("open", "x" * 40), ("open", "y" * 40)]
    assert shown(table(("status", "id"), rows), 40) == [
        "status", "id", "open", "x" * 40, "", "open", "y" * 40,
    ]  # fmt: skip


def test_a_text_wraps_beside_the_other_columns_while_it_has_room() -> None:
    rows = [("ua", "it could not be done, because the reason was long")]
    assert shown(table(("tenant", "why"), rows), 40) == [
        "tenant  why",
        "ua      it could not be done, because",
        "        the reason was long",
    ]


def test_an_empty_table_is_a_sentence() -> None:
    assert shown(table(("id",), [], empty="No open dead letters."), 80) == ["No open dead letters."]


def test_a_command_in_a_sentence_can_be_pasted() -> None:
    command = """starter.py run area.verb --tenant ua --key 'a b' --input '{"a": "it'"'"'s"}'"""
    with use_program(PROGRAM):
        lines = shown(sentence(f'A job: "{command}" runs "it" again.'), 40)
    assert lines == ["A job:", f'"{command}"', 'runs "it" again.']


@given(TEXTS, st.integers(1, 100))
def test_wrapping_changes_nothing_but_blanks(text: str, width: int) -> None:
    lines = wrapped([printable(text)], width)
    assert re.sub(" ", "", "".join(lines)) == re.sub(" ", "", printable(text))


def test_a_word_that_is_too_wide_widens_no_other_cell_of_its_column() -> None:
    rows = [("a", "x" * 50), ("b", "many words that take more than one of the lines")]
    assert shown(table(("id", "why"), rows), 40) == [
        "id",
        "why",
        "a",
        "x" * 50,
        "",
        "b",
        "many words that take more than one of",
        "the lines",
    ]


def test_a_count_has_its_thousands_apart_and_what_is_no_count_stays() -> None:
    rows = [(5003, "5003", True), (-1_000_000, None, 0)]
    assert shown(table(("rows", "key", "said"), rows), 80)[1:] == [
        "5,003       5003  True",
        "-1,000,000        0",
    ]
    assert shown(facts([("replays", 1000)]), 80) == ["replays  1,000"]

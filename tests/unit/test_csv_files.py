"""CSV files cut anywhere into pieces, and read again from anywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.csv_files import (
    RECORD_MAX_CHARACTERS,
    WINDOWS,
    Encoding,
    FileRefused,
    Record,
    RecordParser,
    Sniffer,
    batches,
    read_ahead,
    read_header,
)

CELLS = st.text(
    st.one_of(st.sampled_from('",\r\n;\tä€𐍈x '), st.characters(exclude_categories=["Cs", "Cc"])),
    max_size=8,
)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=12)
ENCODINGS = st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"])


def written(rows: Sequence[Sequence[str]], end: str) -> str:
    buffer = io.StringIO(newline="")
    # With LF at the end of lines, the module does not see that a CR needs quotes.
    if end == "\n":
        csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    else:
        csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def parsed(
    parser: RecordParser, content: bytes, *, cut: int = 65_536, limit: int = 3
) -> list[Record]:
    found: list[Record] = []
    for start in range(0, len(content) or 1, cut):
        parser.feed(content[start : start + cut], final=start + cut >= len(content))
        while records := parser.take(limit):
            found += records
    return found


def sniffed(content: bytes, cut: int = 3) -> Encoding:
    sniffer = Sniffer()
    for start in range(0, len(content), cut):
        sniffer.feed(content[start : start + cut])
    sniffer.feed(b"", final=True)
    return sniffer.encoding()


@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), encoding=ENCODINGS, cut=st.integers(1, 40))
def test_rows_are_what_was_written_wherever_the_file_is_cut(
    rows: list[list[str]], end: str, encoding: str, cut: int
) -> None:
    content = written(rows, end).encode(encoding)
    parser = RecordParser(encoding, delimiter=",")
    assert [cells for _, cells, _ in parsed(parser, content, cut=cut)] == rows
    assert parser.offset == len(content)


@given(rows=ROWS, encoding=ENCODINGS, taken=st.integers(1, 12))
def test_a_reader_that_was_interrupted_goes_on_with_the_next_row(
    rows: list[list[str]], encoding: str, taken: int
) -> None:
    content = written(rows, "\r\n").encode(encoding)
    first = RecordParser(encoding, delimiter=",")
    first.feed(content, final=True)
    before = list(first.take(taken))
    second = RecordParser(encoding, delimiter=",", offset=first.offset, line=first.line)
    after = parsed(second, content[first.offset :])
    assert before + after == parsed(RecordParser(encoding, delimiter=","), content)


@given(content=st.text(st.sampled_from('",\n\rx\0'), max_size=40), cut=st.integers(1, 7))
def test_whatever_comes_is_read_to_its_end_and_the_same_wherever_it_is_cut(
    content: str, cut: int
) -> None:
    parser = RecordParser("utf-8", delimiter=",")
    found = parsed(parser, content.encode(), cut=cut)
    assert parser.offset == len(content)
    assert found == parsed(RecordParser("utf-8", delimiter=","), content.encode())
    assert all(problem or "\0" not in "".join(cells) for _, cells, problem in found)


@given(content=st.binary(max_size=200))
def test_windows_1252_takes_every_byte_for_a_character(content: bytes) -> None:
    parser = RecordParser(WINDOWS, delimiter=",")
    parsed(parser, content)
    assert parser.offset == len(content)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"", ("utf-8", 0)),
        (b"email", ("utf-8", 0)),
        ("ä€𐍈".encode(), ("utf-8", 0)),
        (b"\xef\xbb\xbfemail", ("utf-8", 3)),
        (b"\xef\xbb\xbf\xe4", (WINDOWS, 3)),
        ("ä".encode("cp1252"), (WINDOWS, 0)),
        ("ä".encode()[:1], (WINDOWS, 0)),
        (b"\xff\xfee\0", ("utf-16-le", 2)),
        (b"\xfe\xff\0e", ("utf-16-be", 2)),
        (b"e\0m\0", ("utf-16-le", 0)),
        (b"\0e\0m", ("utf-16-be", 0)),
        (b"\xff\xfe\0\0e\0\0\0", ("utf-32-le", 4)),
    ],
)
def test_an_encoding_is_found_while_the_file_passes(
    content: bytes, encoding: tuple[str, int]
) -> None:
    assert sniffed(content) == encoding


@pytest.mark.parametrize(
    ("content", "cells"),
    [
        ("a;b\n1;2\n", ["1", "2"]),
        ("a\tb\n1\t2\n", ["1", "2"]),
        ("a;b,c\n1,2;3\n", ["1", "2;3"]),
        ("\n\na;b\n1;2\n", ["1", "2"]),
        ("a\n1;2\n", ["1;2"]),
    ],
)
def test_the_first_line_says_what_separates_cells(content: str, cells: list[str]) -> None:
    records = parsed(RecordParser("utf-8"), content.encode())
    assert records[1][1] == cells


def test_a_quote_that_is_not_closed_spoils_its_own_line_only() -> None:
    content = 'a,"b\n' + "x,y\n" * 100_000
    records = parsed(RecordParser("utf-8", delimiter=","), content.encode(), limit=5_000)
    assert records[0] == (1, ['a,"b'], "a quote that this row opens is not closed")
    assert records[1] == (2, ["x", "y"], None)
    assert len(records) == 100_001


def test_a_cell_of_many_lines_is_one_and_the_next_rows_line_is_right() -> None:
    content = 'a,"' + "line\n" * 1_000 + '"\nb,c\n'
    first, second = parsed(RecordParser("utf-8", delimiter=","), content.encode(), cut=100)
    assert first[:2] == (1, ["a", "line\n" * 1_000])
    assert second == (1_002, ["b", "c"], None)


def test_what_is_behind_a_closing_quote_is_a_row_error() -> None:
    records = parsed(RecordParser("utf-8", delimiter=","), b'a,"b"c\nd,e\n')
    assert [problem for _, _, problem in records] == [
        "its quotes are not right: a quoted cell ends with its quote",
        None,
    ]


@pytest.mark.parametrize("cut", [1_000, 65_536, 1_000_000])
def test_a_line_that_never_ends_is_refused_and_not_held(cut: int) -> None:
    parser = RecordParser("utf-8", delimiter=",")
    found: list[Record] = []
    content = b"a,b\n" + b"x" * (RECORD_MAX_CHARACTERS + 1) * 3
    for start in range(0, len(content), cut):
        parser.feed(content[start : start + cut])
        with suppress(FileRefused):
            found += parser.take(10)
    with pytest.raises(FileRefused, match=r"line 2 is longer than 131,072 characters"):
        parser.take(10)
    assert [cells for _, cells, _ in found] == [["a", "b"]]


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_batches_are_of_so_many_rows_or_bytes_and_say_where_the_next_begins() -> None:
    parser = RecordParser("utf-8")
    source = pieces(b"a,b\n", b"1,2\n" * 5, b"\n\n")
    assert await read_header(parser, source) == ["a", "b"]
    found = [batch async for batch in batches(parser, source, rows=2, size=1_000)]
    assert [(len(list(batch.records)), batch.offset, batch.line) for batch in found] == [
        (2, 12, 3),
        (2, 20, 5),
        (1, 26, 8),
    ]
    short = RecordParser("utf-8", delimiter=",")
    found = [batch async for batch in batches(short, pieces(*[b"1,2\n"] * 3), rows=9, size=8)]
    assert [len(list(batch.records)) for batch in found] == [2, 1]


async def test_reading_ahead_makes_the_next_while_one_is_worked_on_and_ends_with_it() -> None:
    made: list[int] = []
    ended = []

    async def source() -> AsyncGenerator[int]:
        try:
            for number in range(3):
                made.append(number)
                yield number
        finally:
            ended.append(True)

    ahead = read_ahead(source())
    assert await anext(ahead) == 0
    assert await anext(ahead) == 1
    await ahead.aclose()
    assert (made[:2], ended) == ([0, 1], [True])

"""CSV files split into chunks anywhere, and reread from anywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saas.services.csv_files import (
    RECORD_MAX_CHARACTERS,
    FileRefused,
    Record,
    RecordParser,
    batches,
    read_ahead,
    read_header,
)
from saas.services.encodings import WINDOWS

CELLS = st.text(
    st.one_of(st.sampled_from('",\r\n;\tä€𐍈x '), st.characters(exclude_categories=["Cs", "Cc"])),
    max_size=8,
)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=12)
ENCODINGS = st.sampled_from(
    ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "gb18030"]
)


def written(rows: Sequence[Sequence[str]], end: str) -> str:
    buffer = io.StringIO(newline="")
    # With LF as the line end, the module does not see that a CR needs quotes.
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


@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), encoding=ENCODINGS, cut=st.integers(1, 40))
def test_rows_are_what_was_written_wherever_the_file_is_cut(
    rows: list[list[str]], end: str, encoding: str, cut: int
) -> None:
    content = written(rows, end).encode(encoding)
    parser = RecordParser(encoding)
    assert [cells for _, cells, _ in parsed(parser, content, cut=cut)] == rows
    assert parser.offset == len(content)


@given(rows=ROWS, encoding=ENCODINGS, taken=st.integers(1, 12))
def test_a_reader_that_was_interrupted_goes_on_with_the_next_row(
    rows: list[list[str]], encoding: str, taken: int
) -> None:
    content = written(rows, "\r\n").encode(encoding)
    first = RecordParser(encoding)
    first.feed(content, final=True)
    before = list(first.take(taken))
    second = RecordParser(encoding, offset=first.offset, line=first.line)
    after = parsed(second, content[first.offset :])
    assert before + after == parsed(RecordParser(encoding), content)


@given(content=st.text(st.sampled_from('",\n\rx\0'), max_size=40), cut=st.integers(1, 7))
def test_whatever_comes_is_read_to_its_end_and_the_same_wherever_it_is_cut(
    content: str, cut: int
) -> None:
    parser = RecordParser("utf-8")
    found = parsed(parser, content.encode(), cut=cut)
    assert parser.offset == len(content)
    assert found == parsed(RecordParser("utf-8"), content.encode())
    assert all(problem or "\0" not in "".join(cells) for _, cells, problem in found)


@given(content=st.binary(max_size=200))
def test_windows_1252_takes_every_byte_for_a_character(content: bytes) -> None:
    parser = RecordParser(WINDOWS)
    parsed(parser, content)
    assert parser.offset == len(content)


def tall(rows: int) -> str:
    """A quoted cell whose lines look like rows."""
    return 'a,"' + "x,y\n" * rows + '"\n'


@pytest.mark.parametrize("cut", [20_000, 65_536, 10_000_000])
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(tall(50_000), id="of lines that look like rows"),
        pytest.param(
            tall(50_000)[:-1] + ',"' + "z\n" * 99_999 + '",""""\n', id="of two such cells"
        ),
        pytest.param("a," + "x" * 140_000 + "\n", id="one line"),
        pytest.param("a," * 100_000 + "\n", id="one line of many cells"),
        pytest.param('a,"' + "x" * 140_000 + '"\n', id="one line with quotes"),
        pytest.param('a,"' + '""' * 140_000 + '"\r\n', id="of quotes"),
    ],
)
def test_what_is_too_long_is_one_row_that_cannot_be_read(row: str, cut: int) -> None:
    content = f"before,1\n{row}behind,2\n".encode()
    parser = RecordParser("utf-8")
    records = parsed(parser, content, cut=cut, limit=5_000)
    assert [(line, problem) for line, _, problem in records] == [
        (1, None),
        (2, "it is longer than 131,072 characters"),
        (2 + row.count("\n"), None),
    ]
    assert len(records[1][1]) == 1
    assert len(records[1][1][0]) <= 1_000
    assert parser.offset == len(content)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_quote_that_is_not_closed_takes_the_rest_of_the_file_and_says_so(lines: int) -> None:
    content = 'a,b\nc,"d\n' + "x,y\n" * lines
    parser = RecordParser("utf-8")
    records = parsed(parser, content.encode(), limit=5_000)
    assert records == [
        (1, ["a", "b"], None),
        (
            2,
            ['c,"d'],
            f"a quote that it opens is not closed, so the {lines:,} lines after it, which are the "
            "rest of the file, are in that cell",
        ),
    ]
    assert parser.offset == len(content)


@pytest.mark.parametrize("cut", [20_000, 65_536])
@pytest.mark.parametrize("line", ['x,"y\n', "x", "x,y\n", "\n", '"', '""', "\r"])
def test_no_more_is_held_than_a_row_and_a_piece(line: str, cut: int) -> None:
    parser = RecordParser("utf-8")
    content = ('a,"' + line * 60_000).encode()
    for start in range(0, len(content), cut):
        parser.feed(content[start : start + cut])
        while parser.take(1_000):
            pass
        assert parser.held <= RECORD_MAX_CHARACTERS + cut


def test_a_reader_that_is_interrupted_in_a_long_row_begins_with_it_again() -> None:
    content = ("a,b\n" + tall(100_000) + "c,d\n").encode()
    parser = RecordParser("utf-8")
    parser.feed(content[:300_000])
    assert [cells for _, cells, _ in parser.take(10)] == [["a", "b"]]
    assert (parser.offset, parser.line) == (4, 1)
    again = RecordParser("utf-8", offset=parser.offset, line=parser.line)
    assert [line for line, _, _ in parsed(again, content[parser.offset :])] == [2, 100_003]


def test_a_cell_of_many_lines_is_one_and_the_next_rows_line_is_right() -> None:
    content = 'a,"' + "line\n" * 1_000 + '"\nb,c\n'
    first, second = parsed(RecordParser("utf-8"), content.encode(), cut=100)
    assert first[:2] == (1, ["a", "line\n" * 1_000])
    assert second == (1_002, ["b", "c"], None)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('a,"b"c\nd,e\n', [1, 2]),
        ('a,"b\nb"c\nd,e\n', [1, 3]),
        ('a,"b"c"d\nd,e\n', [1, 2]),
        ('a,"b" "c"\nd,e\n', [1, 2]),
    ],
)
def test_what_is_behind_a_closing_quote_is_a_row_error(content: str, lines: list[int]) -> None:
    records = parsed(RecordParser("utf-8"), content.encode())
    assert [line for line, _, _ in records] == lines
    assert [problem for _, _, problem in records] == [
        "its quotes are invalid: a quoted cell ends with its quote, and a quote inside is written "
        '""',
        None,
    ]


def test_blanks_behind_a_closing_quote_are_nothing() -> None:
    content = b'"a" ,"b,c"\t,d\r\n"e" \n"f"  '
    records = parsed(RecordParser("utf-8"), content, cut=3)
    assert [cells for _, cells, _ in records] == [["a", "b,c", "d"], ["e"], ["f"]]


@pytest.mark.parametrize(
    ("encoding", "content", "shown", "problem"),
    [
        ("utf-8", b"Jos\xe9,x", "Jos\ufffd", "it has bytes that are not utf-8 (0xE9)"),
        ("utf-8", b"Zo\xc3", "Zo\ufffd", "it has bytes that are not utf-8 (0xC3)"),
        ("utf-8", b"\xed\xa0\x80", "\ufffd" * 3, "it has bytes that are not utf-8 (0xED)"),
        ("windows-1250", b"x\x81", "x\ufffd", "it has bytes that are not windows-1250 (0x81)"),
        ("gb18030", b"x\x81", "x\ufffd", "it has bytes that are not gb18030"),
        ("utf-16-le", b"x\0\0\xd8", "x\ufffd", "it has bytes that are not utf-16-le"),
        ("utf-16-le", b"x\0\0", "x\ufffd", "it has bytes that are not utf-16-le"),
        ("utf-32-be", b"\0\0\0x\0\x11\0\0", "x\ufffd", "it has bytes that are not utf-32-be"),
        ("ascii", b"x\xff", "x\ufffd", "it has bytes that are not ascii (0xFF)"),
        ("utf-8", b"x\0", "x\ufffd", "it has a NUL byte"),
    ],
)
@pytest.mark.parametrize("cut", [1, 2, 100])
def test_bytes_that_cannot_be_read_spoil_their_own_row_only(
    encoding: str, content: bytes, shown: str, problem: str, cut: int
) -> None:
    good = "ok\n".encode(encoding)
    parser = RecordParser(encoding)
    whole = good + content
    first, bad = parsed(parser, whole, cut=cut)
    assert first == (1, ["ok"], None)
    assert (bad[1][0], bad[2]) == (shown, problem)
    assert parser.offset == len(whole)
    after = whole + "\n".encode(encoding) + good
    if len(content) % len("x".encode(encoding)) == 0:
        assert parsed(RecordParser(encoding), after, cut=cut)[-1] == (3, ["ok"], None)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def any_header(header: Sequence[str], rows: Sequence[Sequence[str]]) -> float | None:
    return 1.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\r\n \r\n", "the file is empty"),
        (b'a,"b\nc,d\n', "the header cannot be read: a quote that it opens is not closed"),
        (b"x" * 200_000, "the header cannot be read: it is longer than 131,072 characters"),
        (b"a,\xff\n", "the header cannot be read: it has bytes that are not utf-8"),
    ],
)
async def test_a_file_without_a_header_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(FileRefused, match=sentence):
        await read_header(RecordParser("utf-8"), pieces(content), any_header)


async def test_a_header_that_never_ends_is_refused_before_all_of_it_has_come() -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 100_000

    with pytest.raises(FileRefused, match="longer than"):
        await read_header(RecordParser("utf-8"), endless(), any_header)
    assert asked < 5


async def test_batches_are_of_so_many_rows_or_bytes_and_say_where_the_next_begins() -> None:
    parser = RecordParser("utf-8")
    source = pieces(b"a,b\n", b"1,2\n" * 5, b"\n\n")
    assert await read_header(parser, source, any_header) == ["a", "b"]
    found = [batch async for batch in batches(parser, source, rows=2, size=1_000)]
    assert [(len(list(batch.records)), batch.offset, batch.line) for batch in found] == [
        (2, 12, 3),
        (2, 20, 5),
        (1, 26, 8),
    ]
    short = RecordParser("utf-8")
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

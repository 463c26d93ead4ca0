"""Any bytes as a contact file: every row is counted once, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from activities.contact_rows import Columns, judge
from saas.services.addresses import without_unseen
from saas.services.csv_files import FileRefused, RecordParser, batches, read_header
from saas.services.delimiters import HINT, Dialect
from saas.services.encodings import Reading, Sniffer

LONGEST = 60  # characters per row, so that the examples can be longer


class Counted(NamedTuple):
    reading: Reading
    dialect: Dialect
    accepted: int
    rejected: int
    lines: list[int]  # of rejected rows
    end: int
    header_line: int


def pieces_of(content: bytes, cut: int) -> list[bytes]:
    return [content[start : start + cut] for start in range(0, len(content), cut)]


async def count(content: bytes, cut: int) -> Counted | None:
    """Returns what an import would count; None if it rejects the file."""
    sniffer = Sniffer()
    for piece in pieces_of(content, cut):
        sniffer.feed(piece)
    sniffer.feed(b"", final=True)
    reading = sniffer.reading()
    parser = RecordParser(reading.encoding, offset=reading.mark, longest=LONGEST)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in pieces_of(content[reading.mark :], cut):
            yield piece
            assert parser.held <= LONGEST + 65_536 + cut

    coming = pieces()
    accepted = 0
    lines: list[int] = []
    refused: FileRefused | None = None
    try:
        columns = Columns(await read_header(parser, coming, judge))
    except FileRefused as error:
        refused = error
    if refused is not None:
        assert str(refused).isprintable()
        return None
    header_line = parser.line
    async for batch in batches(parser, coming, rows=3, size=100):
        checked = columns.check(batch.records)
        accepted += checked.accepted
        lines += [each.line for each in checked.rejected]
        assert len(checked.contacts) <= checked.accepted
        assert [each.place for each in checked.rejected] == sorted(
            {each.place for each in checked.rejected}
        )
    rejected = len(lines)
    return Counted(reading, parser.dialect, accepted, rejected, lines, parser.offset, header_line)


@dataclass
class Row:
    """Returns a row as a person would find it, character by character."""

    line: int
    text: str
    cells: list[str]
    spoilt: bool

    @property
    def counts(self) -> bool:
        unreadable = self.spoilt or len(self.text) > LONGEST
        return unreadable or any(map(without_unseen, self.cells))


def rows_of(text: str, dialect: Dialect) -> list[Row]:
    """Returns the rows below the header of a file's text."""
    found: list[Row] = []
    row = Row(1, "", [""], False)
    line, quoted, closed, begins = 1, False, False, True
    for at, character in enumerate(text):
        row.text += character
        ends_line = character == "\n" or (character == "\r" and text[at + 1 : at + 2] != "\n")
        line += ends_line
        if quoted:
            quoted, closed = character != '"', character == '"'
            row.cells[-1] += "" if closed else character
        elif character in "\r\n":
            if ends_line:
                found.append(row)
                row = Row(line, "", [""], False)
                closed, begins = False, True
        elif character == dialect.delimiter:
            row.cells.append("")
            closed, begins = False, True
        elif closed:
            if character == '"' and row.text[-2] == '"':
                quoted, closed = True, False
                row.cells[-1] += '"'
            elif character not in " \t":
                row.spoilt, closed, begins = True, False, False
        elif begins and character == '"':
            quoted, begins = True, False
        elif not (begins and character == " " and dialect.skips_blanks):
            begins = False
            row.cells[-1] += character
    if row.text:
        row.spoilt = row.spoilt or quoted
        found.append(row)
    for each in found:
        each.spoilt = each.spoilt or any(
            character == "\0" or "\ud800" <= character <= "\udfff"
            for cell in each.cells
            for character in cell
        )
    while found and not found[0].text.strip().strip("\ufeff"):
        found.pop(0)
    if found and HINT.fullmatch(found[0].text):
        found.pop(0)
        while found and found[0].cells == [""]:
            found.pop(0)
    return found[1:]


TOKENS = st.sampled_from(
    [
        *(
            '"',
            '""',
            ",",
            ";",
            "\n",
            "\r\n",
            "\r",
            " ",
            "\t",
            "a@b.co",
            "b@c.de,x\n",
            "\0",
            "x" * 70,
        ),
        *(
            "email",
            '"x,y\nz"',
            '"x" ',
            "sep=;\n",
            "a@b.co\n",
            "é",
            "ä ö",
            "山",
            "\udce9",
            "\u200b",
            "\ufeff",
        ),
    ]
)
TEXTS = st.builds(
    lambda header, tokens: (header + "".join(tokens)).encode("utf-8", "surrogateescape"),
    st.sampled_from(
        ["email,name\n", "email;name\r\n", "email\r", "sep=;\nname;email\n", "Mail\n", ""]
    ),
    st.lists(TOKENS, max_size=25),
)
ANY = st.one_of(
    TEXTS,
    st.binary(max_size=150),
    st.binary(max_size=150).map(lambda rest: b"email,name\n" + rest),
    TEXTS.map(lambda text: text.decode("utf-8", "ignore").encode("utf-16-le", "ignore")),
)


@settings(deadline=None)  # the first one loads the language models
@given(content=ANY, cut=st.sampled_from([1, 3, 10, 1_000]))
@example(content=b'email\n"' + b"a@b.co\n" * 50, cut=10)
@example(content=b"email\n" + b"x" * 1_000 + b"\na@b.co\n", cut=10)
def test_rows_in_are_imported_and_rejected_rows_whatever_the_file(content: bytes, cut: int) -> None:
    counted = asyncio.run(count(content, cut))
    if counted is None:
        return
    assert counted.end == len(content)
    if counted.reading.encoding != "utf-8":
        return
    text = content[counted.reading.mark :].decode("utf-8", "surrogateescape")
    rows = [row for row in rows_of(text, counted.dialect) if row.counts]
    assert counted.accepted + counted.rejected == len(rows)
    assert set(counted.lines) <= {row.line for row in rows}


@settings(deadline=None)
@given(content=ANY, first=st.integers(1, 40), second=st.integers(41, 1_000))
def test_a_file_is_counted_the_same_wherever_it_is_cut(
    content: bytes, first: int, second: int
) -> None:
    assert asyncio.run(count(content, first)) == asyncio.run(count(content, second))

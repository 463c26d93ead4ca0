"""CSV files as people send them, read piece by piece from any row on.

Nothing of a file is held but the row that is being read and the piece it is in. Positions are in
bytes, so that a reader which was interrupted goes on where its last row ended.
"""

from __future__ import annotations

import asyncio
import codecs
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat
from typing import Final, NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")

RECORD_MAX_CHARACTERS: Final = 131_072  # of a row; also the csv module's limit for a cell
DELIMITERS: Final = (",", ";", "\t")

_MARKS: Final = (  # the longer before what it begins with
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WINDOWS: Final = "windows-1252"
# What the code page leaves undefined is taken as browsers take it: every byte is a character.
_WINDOWS_TABLE: Final = "".join(
    bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)
)


class FileRefused(Exception):
    """A file cannot be read as CSV. The message is a sentence for whoever sent it."""


class Encoding(NamedTuple):
    """How a file's bytes are read."""

    name: str
    mark: int  # bytes of a byte order mark at its beginning


class Sniffer:
    """Finds out the encoding of a file while it passes by.

    A byte order mark decides. Without one it is UTF-16 where every other of the first four bytes is
    zero, UTF-8 where the whole file is, and else Windows-1252.
    """

    def __init__(self) -> None:
        self._first = b""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("strict")
        self._is_utf8 = True

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        """Looks at the next piece."""
        if len(self._first) < 4:
            self._first = (self._first + piece)[:4]
        if self._is_utf8:
            try:
                self._utf8.decode(piece, final)
            except UnicodeDecodeError:
                self._is_utf8 = False

    def encoding(self) -> Encoding:
        """What it is, once the whole file has passed."""
        for mark, name in _MARKS:
            if self._first.startswith(mark):
                is_it = name != "utf-8" or self._is_utf8
                return Encoding(name if is_it else WINDOWS, len(mark))
        if len(self._first) == 4 and self._first[1] == self._first[3] == 0 != self._first[0]:
            return Encoding("utf-16-le", 0)
        if len(self._first) == 4 and self._first[0] == self._first[2] == 0 != self._first[1]:
            return Encoding("utf-16-be", 0)
        return Encoding("utf-8" if self._is_utf8 else WINDOWS, 0)


Record = tuple[int, list[str], str | None]
"""A row: the line where it begins (from 1), its cells, and why it could not be read.

The last is None for almost all. Where a row's end was not found, its cells are its first line.
"""


class Rows(Protocol):
    """Rows that follow each other; they are gone through once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record]: ...


@dataclass(frozen=True)
class _PlainRows:
    """Rows of a line each, split when they are gone through.

    So there is no more than one list of cells at a time. Thousands at once would keep the garbage
    collector busy, for longer than reading them takes.
    """

    first: int  # the line of the first
    lines: Sequence[str]  # without quotes, and none of them empty
    delimiter: str

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Record]:
        rows = csv.reader(self.lines, delimiter=self.delimiter)
        return zip(count(self.first), rows, repeat(None), strict=False)


class RecordParser:
    """Makes rows of a file's bytes.

    Rows are separated by CRLF, LF or CR, and a quoted cell may hold any of them; lines with nothing
    in them are no rows. A quote that is not closed within `RECORD_MAX_CHARACTERS` spoils its own
    line only: what follows is read as if that were not there.
    """

    def __init__(
        self, encoding: str, *, delimiter: str | None = None, offset: int = 0, line: int = 0
    ) -> None:
        """
        Args:
            encoding: as the `Sniffer` names it.
            delimiter: None: the first line says; a comma, or what of `DELIMITERS` it has.
            offset: bytes before the first one that it is given.
            line: lines before it.
        """
        self.encoding = encoding
        self.delimiter = delimiter
        self.offset = offset  # where the next row begins
        self.line = line
        self._decoder = _decoder(encoding)
        self._lines: list[str] = []  # whole, and not parsed yet
        self._rest = ""  # of a line that has no end yet
        self._final = False
        self._too_long = False  # the line behind `_lines` is
        self._quoted = False  # whether `_lines` may have a quote
        self._zeros = False  # whether there has been a NUL

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        """Takes the next bytes; `final` says that there are no more."""
        self._final = final
        if self._too_long:
            return
        text = self._rest + self._decoder.decode(piece, final)
        self._quoted = '"' in text or (self._quoted and bool(self._lines))
        self._zeros = self._zeros or "\0" in text
        lines = io.StringIO(text, newline="").readlines()
        # A CR at the end may be half of what ends the line.
        self._rest = lines.pop() if lines and not final and not lines[-1].endswith("\n") else ""
        longest = max(map(len, lines), default=0)
        if longest > RECORD_MAX_CHARACTERS:
            lines = lines[: [len(line) > RECORD_MAX_CHARACTERS for line in lines].index(True)]
        self._too_long = max(longest, len(self._rest)) > RECORD_MAX_CHARACTERS
        self._lines += lines

    def take(self, limit: int) -> Rows:
        """Returns up to `limit` rows of what it was given; fewer where the next is not whole yet.

        Raises `FileRefused` at a line that is too long to be one.
        """
        if self.delimiter is None:
            self.delimiter = self._delimiter()
        if self._lines and not self._quoted and not self._zeros:
            lines = self._lines[:limit]
            if _NOTHING.isdisjoint(lines):
                rows = _PlainRows(self.line + 1, lines, self.delimiter or DELIMITERS[0])
                self._advance(len(lines))
                return rows
        found: list[Record] = []
        while self._lines and self._parse(found, limit):
            pass
        if self._zeros:
            found = [_without_zeros(record) for record in found]
        if not found and not self._lines and self._too_long:
            raise FileRefused(
                f"line {self.line + 1:,} is longer than {RECORD_MAX_CHARACTERS:,} characters. "
                "Is it a CSV file?"
            )
        return found

    def _delimiter(self) -> str | None:
        first = next((line for line in self._lines if line.strip()), None)
        if first is None:
            return None
        return next((each for each in DELIMITERS if each in first), DELIMITERS[0])

    def _parse(self, found: list[Record], limit: int) -> bool:
        """Adds whole rows to `found`; False where it takes more bytes, or no more rows, to go on.

        It stops behind a row that is broken, since the rest must be read anew.
        """
        reader = csv.reader(self._lines, delimiter=self.delimiter or DELIMITERS[0], strict=True)
        done = 0  # lines
        broken: str | None = None
        try:
            for cells in reader:
                if reader.line_num - done > 1 and self._is_too_long(done, reader.line_num):
                    broken = _UNCLOSED
                    break
                if cells:
                    found.append((self.line + done + 1, cells, None))
                done = reader.line_num
                if len(found) >= limit:
                    break
        except csv.Error:
            if self._may_go_on(done, reader.line_num):
                self._advance(done)
                return False
            broken = _UNCLOSED if reader.line_num - done > 1 else _MISQUOTED
        if broken is not None:
            found.append((self.line + done + 1, [self._lines[done].rstrip("\r\n")], broken))
            done += 1
        self._advance(done)
        return broken is not None and len(found) < limit

    def _may_go_on(self, start: int, end: int) -> bool:
        """Whether the row that begins with line `start` may only lack what has not come yet."""
        ended = end < len(self._lines) or self._final or self._too_long
        return not ended and not self._is_too_long(start, end)

    def _is_too_long(self, start: int, end: int) -> bool:
        return sum(map(len, self._lines[start:end])) > RECORD_MAX_CHARACTERS

    def _advance(self, lines: int) -> None:
        self.offset += _size("".join(self._lines[:lines]), self.encoding)
        self.line += lines
        del self._lines[:lines]


_UNCLOSED: Final = "a quote that this row opens is not closed"
_MISQUOTED: Final = "its quotes are not right: a quoted cell ends with its quote"
_NOTHING: Final = frozenset({"\n", "\r\n", "\r"})  # lines that are no rows
_ZERO: Final = "it has a NUL byte"


def _without_zeros(record: Record) -> Record:
    line, cells, problem = record
    if not any("\0" in cell for cell in cells):
        return record
    return line, [cell.replace("\0", "\ufffd") for cell in cells], problem or _ZERO


async def read_header(parser: RecordParser, pieces: AsyncIterator[bytes]) -> list[str]:
    """Returns a file's first row; raises `FileRefused` where there is none."""
    while True:
        piece = await anext(pieces, None)
        parser.feed(piece or b"", final=piece is None)
        for _, cells, problem in parser.take(1):
            if problem is not None:
                raise FileRefused(f"the header cannot be read: {problem}.")
            return cells
        if piece is None:
            raise FileRefused("the file is empty. Its first line names the columns.")


class Batch(NamedTuple):
    """Rows that follow each other, and where the next ones begin."""

    rows: list[Rows]
    offset: int  # bytes
    line: int  # lines before it

    @property
    def records(self) -> Iterator[Record]:
        """Each of the rows."""
        return chain.from_iterable(self.rows)


async def batches(
    parser: RecordParser, pieces: AsyncIterator[bytes], *, rows: int, size: int
) -> AsyncGenerator[Batch]:
    """Yields a file's rows in batches of `rows`, or fewer where they come to `size` bytes."""
    found: list[Rows] = []
    number = 0
    begin = parser.offset
    final = False
    while not final:
        piece = await anext(pieces, None)
        final = piece is None
        parser.feed(piece or b"", final=final)
        while taken := parser.take(rows - number):
            found.append(taken)
            number += len(taken)
            if number >= rows or parser.offset - begin >= size:
                yield Batch(found, parser.offset, parser.line)
                found, number, begin = [], 0, parser.offset
    # Lines with nothing in them may be behind the last row.
    if parser.offset > begin:
        yield Batch(found, parser.offset, parser.line)


async def read_ahead(source: AsyncGenerator[Item]) -> AsyncGenerator[Item]:
    """Yields what `source` does, which makes one thing while the one before is worked on."""
    coming = asyncio.create_task(_next(source))
    try:
        while (item := await coming) is not None:
            coming = asyncio.create_task(_next(source))
            yield item
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await source.aclose()


async def _next(source: AsyncGenerator[Item]) -> Item | None:
    return await anext(source, None)


class _Windows(codecs.IncrementalDecoder):
    def decode(self, input: bytes, final: bool = False) -> str:  # type: ignore[override]
        return codecs.charmap_decode(input, self.errors, _WINDOWS_TABLE)[0]


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    if encoding == WINDOWS:
        return _Windows()
    return codecs.getincrementaldecoder(encoding)("replace")


def _size(text: str, encoding: str) -> int:
    """How many bytes of the file `text` is."""
    if encoding == WINDOWS or (encoding == "utf-8" and text.isascii()):
        return len(text)
    return len(text.encode(encoding))

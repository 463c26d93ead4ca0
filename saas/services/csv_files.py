"""Reads CSV files as people send them, chunk by chunk, from any row on.

Memory holds only the current row and the current chunk. Positions are in bytes, so that an
interrupted reader continues where its last row ended.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat
from typing import Final, NamedTuple, Protocol, TypeVar

from saas.services.decoding import decoder_of, readable, unreadable
from saas.services.delimiters import HINT, Dialect, Judge, choose_dialect
from saas.services.file_kinds import HEAD_BYTES, NO_TEXT, binary_kind, has_no_text, text_kind
from saas.services.quoting import RecordScanner

Item = TypeVar("Item")

RECORD_MAX_CHARACTERS: Final = 131_072  # per row; also the csv module's limit for a cell
SAMPLE_LINES: Final = 200  # used to detect the delimiter
SAMPLE_CHARACTERS: Final = 65_536


class FileRefused(Exception):
    """A file cannot be read as CSV. The message is a sentence for its sender."""


class EncodingUnsure(FileRefused):
    """Several encodings make sense of a file, and the text depends on which one it is."""


Record = tuple[int, list[str], str | None]
"""A row: the line where it begins (from 1), its cells, and why it could not be read.

The last is None for almost all rows. If the end of a row was not found, the only cell is its first
line.
"""


class Rows(Protocol):
    """Consecutive rows, to be iterated once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record]: ...


@dataclass(frozen=True)
class _PlainRows:
    """Rows of one line each, split during iteration.

    Only one list of cells exists at a time. Thousands at once would keep the garbage collector busy
    for longer than reading them takes.
    """

    first: int  # the line number of the first row
    lines: Sequence[str]  # without quotes or empty lines
    delimiter: str

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Record]:
        rows = csv.reader(self.lines, delimiter=self.delimiter)
        return zip(count(self.first), rows, repeat(None), strict=False)


class RecordParser:
    """Turns the bytes of a file into rows.

    Rows are separated by CRLF, LF or CR, and a quoted cell may contain any of them; empty lines are
    not rows. Text within quotes is never taken for a row: a row that is too long counts as one
    unreadable row up to where its quotes end, and only its beginning is kept in memory.
    """

    def __init__(
        self,
        encoding: str,
        *,
        dialect: Dialect | None = None,
        offset: int = 0,
        line: int = 0,
        longest: int = RECORD_MAX_CHARACTERS,
    ) -> None:
        """
        Args:
            encoding: the `Sniffer`'s name for it.
            dialect: how cells are separated; None: `read_header` detects it.
            offset: where in the file the first chunk begins, in bytes.
            line: the number of lines before it.
            longest: the maximum length of a row, in characters.
        """
        self.encoding = encoding
        self.dialect = dialect or Dialect()
        self.offset = offset  # where the next row begins
        self.line = line
        self._longest = longest
        self._decoder = decoder_of(encoding)
        self._fed = offset  # where the next chunk begins
        self._lines: list[str] = []  # complete, and not parsed yet
        self._rest = ""  # the incomplete last line
        self._final = False
        self._quoted = False  # whether `_lines` may contain a quote
        self._broken = False  # whether they may contain unreadable characters
        self._long = False  # whether one of them is too long for a row
        self._passing: _Passing | None = None

    @property
    def held(self) -> int:
        """The number of characters in memory."""
        return sum(map(len, self._lines)) + len(self._rest)

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        """Adds the next chunk; `final` marks the last one."""
        self._final = final
        self._fed += len(piece)
        text = self._rest + self._decoder.decode(piece, final)
        some = bool(self._lines)
        self._quoted = '"' in text or (self._quoted and some)
        is_still_broken = self._broken and (some or readable(text) != text)
        self._broken = self._decoder.found_broken or "\0" in text or is_still_broken
        lines = io.StringIO(text, newline="").readlines()
        # A CR at the end may be the first half of a CRLF.
        self._rest = lines.pop() if lines and not final and not lines[-1].endswith("\n") else ""
        longest = max(map(len, lines), default=0)
        self._long = longest > self._longest or (self._long and some)
        self._lines += lines

    def sample(self) -> Sequence[str] | None:
        """Returns the first lines, or None if the sample needs more input."""
        known = sum(map(len, self._lines[:SAMPLE_LINES])) + len(self._rest)
        if self._final or len(self._lines) >= SAMPLE_LINES or known >= SAMPLE_CHARACTERS:
            return self._lines[:SAMPLE_LINES] or [self._rest[:SAMPLE_CHARACTERS]]
        return None

    @property
    def is_passing(self) -> bool:
        """Whether the next row is too long and its end has not been found yet."""
        return self._passing is not None

    def skip_line(self) -> None:
        """Skips the next line, which is not a row."""
        self._advance(min(1, len(self._lines)))

    def take(self, limit: int) -> Rows:
        """Returns up to `limit` complete rows; fewer if the next one needs more input."""
        if self._is_plain():
            lines = self._lines[:limit]
            if _NOTHING.isdisjoint(lines):
                rows = _PlainRows(self.line + 1, lines, self.dialect.delimiter)
                self._advance(len(lines))
                return rows
        found: list[Record] = []
        while len(found) < limit and self._find(found, limit):
            pass
        if self._broken:
            found = [_as_text(record, self.encoding) for record in found]
        return found

    def _is_plain(self) -> bool:
        odd = self._quoted or self._broken or self._long or self._passing is not None
        return bool(self._lines) and not odd

    def _find(self, found: list[Record], limit: int) -> bool:
        """Adds complete rows to `found`; returns False if it needs more input or is at the end."""
        if self._passing is not None:
            return self._pass(self._passing, found)
        if self._lines:
            return self._parse(found, limit) or self._scan(found)
        if len(self._rest) > self._longest:
            self._passing = _Passing(self._scanner(), self.line + 1, self._rest)
            return True
        return False

    def _parse(self, found: list[Record], limit: int) -> bool:
        """Adds the rows that the csv module can read; returns False at one that it cannot."""
        reader = csv.reader(self._lines, strict=True, **self.dialect.options)
        done = 0  # lines
        try:
            for cells in reader:
                if self._is_too_long(done, reader.line_num):
                    found.append((self.line + done + 1, [self._lines[done][:_SHOWN]], _TOO_LONG))
                elif cells:
                    found.append((self.line + done + 1, cells, None))
                done = reader.line_num
                if len(found) >= limit:
                    break
        except csv.Error:
            pass
        else:
            self._advance(done)
            return True
        self._advance(done)
        return False

    def _scan(self, found: list[Record]) -> bool:
        """Adds the next row, which the csv module cannot read; returns False without its end."""
        scanner = self._scanner()
        line, first = self.line + 1, self._lines[0].rstrip("\r\n")[:_SHOWN]
        for number, text in enumerate(self._lines, start=1):
            ended = scanner.feed(text) or (
                self._final and number == len(self._lines) and scanner.may_end
            )
            if ended:
                long = self._is_too_long(0, number)
                self._advance(number)
                cells = None if long or scanner.is_misquoted else scanner.cells()
                if cells is None:
                    found.append((line, [first], _TOO_LONG if long else _MISQUOTED))
                else:
                    found.append((line, cells, None))
                return True
        if not self._final and self.held <= self._longest:
            return False
        self._passing = passing = _Passing(scanner, line, first)
        self._advance(len(self._lines))
        return self._pass(passing, found) or not self._final

    def _pass(self, passing: _Passing, found: list[Record]) -> bool:
        """Skips the rest of a row that is too long; returns False if its end is still to come."""
        for number, text in enumerate(self._lines, start=1):
            if passing.scanner.feed(text):
                self._advance(number)
                return self._end(passing, found, _TOO_LONG)
        self._advance(len(self._lines))
        # Without a CR at the end, which may be the first half of a CRLF.
        whole = self._rest[:-1] if self._rest.endswith("\r") else self._rest
        passing.scanner.feed(whole)
        passing.bytes += self._decoder.size([whole])
        self._rest = self._rest[len(whole) :]
        if not self._final:
            return False
        lines = passing.lines - 1
        return self._end(
            passing,
            found,
            _TOO_LONG if passing.scanner.may_end else _UNCLOSED.format(lines=lines),
        )

    def _end(self, passing: _Passing, found: list[Record], problem: str) -> bool:
        self._passing = None
        self.offset += passing.bytes
        self.line += passing.lines
        self._at_end()
        found.append((passing.line, [passing.first], problem))
        return True

    def _scanner(self) -> RecordScanner:
        return RecordScanner(self.dialect, self._longest)

    def _is_too_long(self, start: int, end: int) -> bool:
        """Whether these lines are too long for a row; the csv module only limits each cell."""
        if end - start == 1 and not self._long:
            return False
        return sum(map(len, self._lines[start:end])) > self._longest

    def _advance(self, lines: int) -> None:
        size = self._decoder.size(self._lines[:lines])
        del self._lines[:lines]
        if self._passing is None:
            self.offset += size
            self.line += lines
            self._at_end()
        else:  # an interrupted reader starts again at the beginning of this row
            self._passing.bytes += size
            self._passing.lines += lines

    def _at_end(self) -> None:
        if self._final and not self._lines:
            self.offset = self._fed  # an incomplete character at the end has no size


@dataclass
class _Passing:
    """A row that is too long and is being skipped."""

    scanner: RecordScanner
    line: int  # where it begins
    first: str  # its first line
    bytes: int = 0  # skipped so far
    lines: int = 0

    def __post_init__(self) -> None:
        self.first = readable(self.first[:_SHOWN])


_SHOWN: Final = 1_000  # characters kept of an unreadable row
_TOO_LONG: Final = f"it is longer than {RECORD_MAX_CHARACTERS:,} characters"
_UNCLOSED: Final = (
    "a quote that it opens is not closed, so the {lines:,} lines after it, which are the rest of "
    "the file, are in that cell"
)
_MISQUOTED: Final = (
    'its quotes are invalid: a quoted cell ends with its quote, and a quote inside is written ""'
)
_NOTHING: Final = frozenset({"\n", "\r\n", "\r"})  # empty lines, which are not rows


def _as_text(record: Record, encoding: str) -> Record:
    line, cells, problem = record
    why = next((found for cell in cells if (found := unreadable(cell, encoding))), None)
    return record if why is None else (line, [readable(cell) for cell in cells], problem or why)


async def read_header(
    parser: RecordParser, pieces: AsyncIterator[bytes], judge: Judge
) -> list[str]:
    """Returns a file's header row, and detects how its cells are separated.

    Args:
        parser: a parser at the beginning of the file.
        pieces: the chunks of the file.
        judge: says whether a row can be the header, and how well other rows fit it.

    Raises:
        FileRefused: the file has no header that can be read.
    """
    head = b""
    while (sample := parser.sample()) is None:
        piece = await anext(pieces, None)
        head += (piece or b"")[: HEAD_BYTES - len(head)]
        parser.feed(piece or b"", final=piece is None)
    if kind := binary_kind(head):
        raise FileRefused(f"the file is {kind}")
    if not parser.encoding.startswith(("utf-16", "utf-32")) and has_no_text(head):
        raise FileRefused(f"the file is {NO_TEXT}")
    lines = list(sample)
    while lines and not lines[0].strip().strip("\ufeff"):
        parser.skip_line()
        lines.pop(0)
    hint = HINT.fullmatch(lines[0]) if lines else None
    if hint is not None:
        parser.skip_line()
        parser.dialect = choose_dialect(lines[1:], judge, delimiters=hint["delimiter"])
    else:
        parser.dialect = choose_dialect(lines, judge)
    for _, cells, problem in await _first(parser, pieces):
        if judge(cells, []) is None and (kind := text_kind("".join(lines[:20]))):
            raise FileRefused(f"the file is {kind}")
        if problem is not None:
            raise FileRefused(f"the header cannot be read: {problem}.")
        return cells
    raise FileRefused("the file is empty. Its first line names the columns.")


async def _first(parser: RecordParser, pieces: AsyncIterator[bytes]) -> Rows:
    while not (rows := parser.take(1)):
        piece = await anext(pieces, None)
        parser.feed(piece or b"", final=piece is None)
        if piece is None or parser.is_passing:
            rows = parser.take(1)
            return rows or [(parser.line + 1, [""], _TOO_LONG)] if parser.is_passing else rows
    return rows


class Batch(NamedTuple):
    """Consecutive rows, and where the next batch begins."""

    rows: list[Rows]
    offset: int  # of the next batch, in bytes
    line: int  # the number of lines before the next batch

    @property
    def records(self) -> Iterator[Record]:
        """The rows, one by one."""
        return chain.from_iterable(self.rows)


async def batches(
    parser: RecordParser, pieces: AsyncIterator[bytes], *, rows: int, size: int
) -> AsyncGenerator[Batch]:
    """Yields a file's rows in batches of at most `rows`; a batch also ends at `size` bytes."""
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
    # Empty lines may follow the last row.
    if parser.offset > begin:
        yield Batch(found, parser.offset, parser.line)


async def read_ahead(source: AsyncGenerator[Item]) -> AsyncGenerator[Item]:
    """Yields the items of `source`, which prepares the next item while one is processed."""
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

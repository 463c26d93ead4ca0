"""Lays text out for a terminal: lines break between words, and no word is broken or cut off.

A word that is wider than the terminal keeps a line for itself. The terminal shows it on several
lines, but copies it in one piece, because no newline is inserted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from rich.cells import cell_len

from temporal_tenancy.cli.program import program_name

GAP: Final = 2  # columns between two cells
INDENT: Final = 2  # of the further lines of a row
ROOM: Final = 20  # columns that a cell of several words has at least, if it needs them


class Whole(str):
    """Text that stays on one line although it may have spaces, such as a workflow id."""

    __slots__ = ()


def width_of(text: str) -> int:
    """Returns the terminal columns that a text takes; wide characters take two."""
    return len(text) if text.isascii() else cell_len(text)


def words_of(text: str) -> list[str]:
    """Returns the parts of a text that stay on one line: a `Whole`, or its words and commands.

    A command is in quotation marks, and begins with `make`, a file of Python or the name of the
    current program.
    """
    if isinstance(text, Whole):
        return [text]
    if '"' in text:
        return _words(program_name() or "make").findall(text)
    return [word for word in text.split(" ") if word]


@cache
def _words(program: str) -> re.Pattern[str]:
    # Within the quotation marks the shell's quoted arguments may have some too.
    inner = r"""(?:'[^']{0,2000}'|"'"|[^"']){0,2000}"""
    names = rf"(?:make|[\w./-]+\.py|{re.escape(program)})"
    return re.compile(rf"""(?:"{names} {inner}"|[^ ])[^ ]*""")


def wrapped(parts: Sequence[str], width: int) -> list[str]:
    """Returns the lines of a paragraph, each of `width` columns or of one longer word.

    Args:
        parts: texts, which are joined by spaces.
        width: the columns of a line.
    """
    joined = " ".join(parts)
    if width_of(joined) <= width:
        return [joined]
    lines: list[str] = []
    line, used = "", 0
    for word in (word for part in parts for word in words_of(part)):
        needed = width_of(word)
        if line and used + 1 + needed <= width:
            line, used = f"{line} {word}", used + 1 + needed
            continue
        if line:
            lines.append(line)
        line, used = word, needed
    return [*lines, line]


def facts_lines(pairs: Sequence[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    """Returns the lines of names and their values: each line's name, then the rest of the line.

    A word that does not fit beside the names begins a line below its name.
    """
    column = max((width_of(name) for name, _ in pairs), default=0) + GAP
    lines = []
    for name, value in pairs:
        longest = max(map(width_of, words_of(value)), default=0)
        if column + longest <= width:
            first, *more = wrapped([value], width - column)
            lines.append((name, f"{' ' * (column - width_of(name))}{first}"))
            lines += [("", f"{' ' * column}{line}") for line in more]
            continue
        indent = INDENT if INDENT + longest <= width else 0
        lines.append((name, ""))
        lines += [("", f"{' ' * indent}{line}") for line in wrapped([value], width - indent)]
    return lines


@dataclass(frozen=True)
class _Column:
    """A column's width."""

    natural: int  # of its widest cell
    least: int  # without wrapping it into a heap of short lines


@dataclass(frozen=True)
class _Band:
    """The columns that share a line of each row."""

    columns: Sequence[int]  # positions
    widths: Sequence[int]
    indent: int


def table_lines(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Returns the lines of each row of a table, so that its columns are aligned.

    Cells wrap between words. Columns for which the width is too small continue on further,
    indented lines of their row.

    Args:
        rows: the cells of each row, as many in each; the titles are a row too.
        width: the columns of the terminal.
    """
    columns = [_column([row[position] for row in rows]) for position in range(len(rows[0]))]
    bands = _bands(columns, width)
    lines = [[line for band in bands for line in _row(row, band)] for row in rows]
    if len(bands) > 1 and not all(band.indent for band in bands[1:]):
        # Nothing else tells where a row begins.
        return [lines[0], *([*of_row, ""] for of_row in lines[1:-1]), *lines[1:][-1:]]
    return lines


def _column(cells: Sequence[str]) -> _Column:
    natural = max(map(width_of, cells))
    longest = max((width_of(word) for cell in cells for word in words_of(cell)), default=0)
    return _Column(natural, min(natural, max(longest, ROOM)))


def _bands(columns: Sequence[_Column], width: int) -> list[_Band]:
    """Returns the columns' lines: as few as the width allows, in the columns' order."""
    bands: list[_Band] = []
    positions: list[int] = []
    for position, column in enumerate(columns):
        indent = INDENT if bands else 0
        needed = sum(columns[each].least + GAP for each in positions) + column.least
        if positions and indent + needed > width:
            bands.append(_band(positions, columns, width, indent))
            positions = []
        positions.append(position)
    return [*bands, _band(positions, columns, width, INDENT if bands else 0)]


def _band(positions: Sequence[int], columns: Sequence[_Column], width: int, indent: int) -> _Band:
    # A column may have a word that is wider than the terminal; its other cells are not.
    widths = {each: min(columns[each].least, width) for each in positions}
    needed = sum(widths.values()) + GAP * (len(positions) - 1)
    if indent + needed > width:
        indent = 0
    spare = max(0, width - indent - needed)
    # Those that lack least come first: the more of them stay on one line.
    by_lack = sorted(positions, key=lambda each: columns[each].natural - widths[each])
    for still, position in zip(range(len(by_lack), 0, -1), by_lack, strict=True):
        more = min(columns[position].natural - widths[position], spare // still)
        widths[position] += more
        spare -= more
    return _Band(positions, [widths[each] for each in positions], indent)


def _row(cells: Sequence[str], band: _Band) -> list[str]:
    """Returns the lines of one row's cells in a band; none if all of them are empty."""
    if not any(cells[position] for position in band.columns):
        return []
    blocks = [
        wrapped([cells[position]], width)
        for position, width in zip(band.columns, band.widths, strict=True)
    ]
    lines = []
    for height in range(max(map(len, blocks))):
        texts = [block[height] if height < len(block) else "" for block in blocks]
        padded = [
            text + " " * (width - width_of(text) + GAP)
            for text, width in zip(texts, band.widths, strict=True)
        ]
        lines.append(f"{' ' * band.indent}{''.join(padded)}".rstrip())
    return lines

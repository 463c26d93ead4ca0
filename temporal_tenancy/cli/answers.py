"""Prints a command's answer: one JSON document, or text for a person."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.text import Text

from temporal_tenancy.cli._layout import Whole, facts_lines, table_lines, width_of, wrapped
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core import words
from temporal_tenancy.core.words import number as number
from temporal_tenancy.postgres.silent_servers import watching_for_silence

WIDE: Final = 10_000  # columns, where there is no terminal: nothing is cut off

out: Final = Console(highlight=False, emoji=False, markup=False)
err: Final = Console(highlight=False, emoji=False, markup=False, stderr=True)
"""Standard error, for progress and warnings."""
for console in (out, err):
    if not console.is_terminal:
        console.width = WIDE


class OutputLost(Exception):
    """The answer cannot be written to standard output."""


@dataclass(frozen=True)
class Problem:
    """Why a command that did its work ends with exit code 1."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True)
class Answer:
    """The result of a command."""

    document: Any  # for json.dumps; may contain times and sets
    text: RenderableType  # for a person
    problem: Problem | None = None


def perform(command: Coroutine[None, None, Answer], *, json: bool) -> None:
    """Runs a command and prints its answer; raises `typer.Exit(1)` if the answer has a problem.

    `report` handles every other exception.
    """
    with closing(command):
        current_application()  # loads it, which registers its jobs
        with watching_for_silence():
            answer = asyncio.run(command)
    if json:
        document = answer.document
        if answer.problem is not None:
            document = {**document, "error": vars(answer.problem)}
        print_json(document)
    else:
        text = answer.text
        if isinstance(text, str):
            text = lines(*text.splitlines())
        with _writing(), out.capture() as shown:
            out.print(_Printable(text), crop=False)
        # Trailing blanks, which pad a column, get in the way of copying and comparing.
        write("\n".join(line.rstrip() for line in shown.get().splitlines()))
    if answer.problem is not None:
        say(str(answer.problem))
        raise typer.Exit(1)


def print_text(command: Coroutine[None, None, str]) -> None:
    """Runs a command and prints its answer as it is, such as CSV for another program."""
    with closing(command):
        current_application()  # loads it, which registers its jobs
        with watching_for_silence():
            write(asyncio.run(command))


def print_json(document: Any) -> None:
    """Prints a document as JSON on standard output.

    Escapes control characters as JSON does, so that a terminal does not act on them and a parser
    reads the same text.
    """
    text = json_module.dumps(document, indent=2, ensure_ascii=False, default=_as_json)
    from temporal_tenancy.core.display import printable_json

    write(printable_json(text))


def write(text: str) -> None:
    """Prints text on standard output.

    Raises `OutputLost` if it cannot be written, and `BrokenPipeError` if the reader has gone.
    """
    with _writing():
        print(text, flush=True)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise OutputLost(f"standard output cannot be written: {error.strerror}.") from None


def drop_output() -> None:
    """Discards the rest of standard output, after its reader has gone or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(sentence: str) -> None:
    """Prints a sentence for a person on standard error."""
    width = err.width if err.is_terminal else WIDE
    with suppress(OSError):  # nobody reads it; the command continues
        print("\n".join(wrapped([_printable(sentence)], width)), file=sys.stderr)


def live_text(shown: RenderableType) -> RenderableType:
    """Returns text for a live view, with visible control characters."""
    return _Printable(shown)


@dataclass(frozen=True)
class _Printable:
    """Text for a person, with visible control characters."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.shown, options):
            if segment.control is None:
                yield segment._replace(text=_printable(segment.text, lines=True))
            else:
                yield segment


def lines(*parts: RenderableType | None) -> RenderableType:
    """Returns the parts that are not None, one below the other."""
    present = (part for part in parts if part is not None)
    return Group(*(sentence(part) if isinstance(part, str) else part for part in present))


def sentence(*parts: str) -> RenderableType:
    """Returns parts that are joined by spaces, and break between words."""
    return _Shown(partial(_paragraph, [_on_one_line(part) for part in parts]))


def json_text(value: Any) -> str | None:  # JSON
    """Returns a value for people: text as it is, else JSON on one line; None for None."""
    if value is None or isinstance(value, str):
        return value
    return json_module.dumps(value, ensure_ascii=False, default=_as_json)


def shown_as_text(*sentences: str) -> Text:
    """Returns sentences, one below the other, as the text of a spinner."""
    return Text("\n".join(map(_on_one_line, sentences)))


def whole(text: str) -> str:
    """Returns text of a cell or a sentence that stays in one piece, such as a workflow id.

    What has no space, and a command in quotation marks, does so anyway.
    """
    return Whole(_printable(text))


def address(url: str | None, *before: object) -> RenderableType | None:
    """Returns a URL that is not wrapped, after the values of `before`; None if all are missing."""
    if url is None and not before:
        return None
    parts = [*(_on_one_line(each) for each in before), *([Whole(url)] if url else [])]
    return _Shown(partial(_side_by_side, parts))


def table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "There are none."
) -> RenderableType:
    """Returns aligned columns without rules; None becomes an empty cell.

    Where the terminal is too narrow for the columns, cells wrap between words, and a row goes on
    below. No word is broken, and neither is what is `whole()`.

    Args:
        titles: of the columns.
        rows: the cells.
        empty: the sentence that stands for a table without rows.
    """
    cells = [["" if cell is None else _on_one_line(cell) for cell in row] for row in rows]
    return _Shown(partial(_table, [list(titles), *cells])) if cells else sentence(empty)


def facts(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Returns names with their values, without those that are None or empty."""
    present = [
        (_on_one_line(name), _on_one_line(value))
        for name, value in pairs
        if value is not None and value != ""
    ]
    return _Shown(partial(_facts, present))


@dataclass(frozen=True)
class _Shown:
    """Lines that are laid out for the width of the terminal."""

    lay_out: Callable[[int], Iterable[Text]]  # takes the columns that there are

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.lay_out(options.max_width):
            line.no_wrap, line.overflow = True, "ignore"
            yield line


def _paragraph(parts: Sequence[str], width: int) -> Iterator[Text]:
    return map(Text, wrapped(parts, width))


def _side_by_side(parts: Sequence[str], width: int) -> Iterator[Text]:
    """A URL stands below what comes before it if both do not fit on one line."""
    line = "  ".join(parts)
    if len(parts) == 1 or width_of(line) <= width:
        yield Text(line)
        return
    yield from map(Text, wrapped(parts[:-1], width))
    yield Text(parts[-1])


def _table(rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    titles, *others = table_lines(rows, width)
    yield from (Text(line, "bold") for line in titles)
    yield from (Text(line) for row in others for line in row)


def _facts(pairs: Sequence[tuple[str, str]], width: int) -> Iterator[Text]:
    for name, rest in facts_lines(pairs, width):
        yield Text.assemble((name, "bold"), rest)


def _on_one_line(value: object) -> str:
    """Returns a value on one line: after a line break a tenant's text could pass for ours.

    A count has its thousands apart, as in a sentence.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, Whole) else _printable(str(value))


def _printable(text: str, *, lines: bool = False) -> str:
    # Most sentences need no change. The import loads the SDK, which --help does not need.
    if text.isascii() and text.isprintable():
        return text
    from temporal_tenancy.core.display import printable

    return printable(text, lines=lines)


def when(moment: datetime | None) -> str | None:
    """Returns a time in UTC to the second, for people."""
    return None if moment is None else words.when(moment)


def minute(moment: datetime | None) -> str | None:
    """Returns a time in UTC to the minute, for lists and for times that people have set."""
    return None if moment is None else words.minute(moment)


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")

"""Prints a command's answer: one JSON document, or text for a person."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import sys
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from temporal_tenancy.cli.program import current_application

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
        answer = asyncio.run(command)
    if json:
        document = answer.document
        if answer.problem is not None:
            document = {**document, "error": vars(answer.problem)}
        print_json(document)
    else:
        with _writing(), out.capture() as shown:
            out.print(_Printable(answer.text), crop=False)
        # Trailing blanks, which pad a column, get in the way of copying and comparing.
        write("\n".join(line.rstrip() for line in shown.get().splitlines()))
    if answer.problem is not None:
        say(str(answer.problem))
        raise typer.Exit(1)


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
    with suppress(OSError):  # nobody reads it; the command continues
        print(_printable(sentence), file=sys.stderr)


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
    return Group(*(_on_one_line(part) if isinstance(part, str) else part for part in present))


def address(url: str | None, *before: object) -> RenderableType | None:
    """Returns a URL that is not wrapped, after the values of `before`; None if all are missing."""
    if url is None and not before:
        return None
    words = [*map(_on_one_line, before), *([url] if url else [])]
    return Text("  ".join(words), no_wrap=True, overflow="ignore")


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    """Returns aligned columns without rules; None becomes an empty cell."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        grid.add_column(title, overflow="fold")
    for row in rows:
        grid.add_row(*("" if cell is None else _on_one_line(cell) for cell in row))
    return grid


def facts(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Returns names with their values, without those that are None or empty."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            grid.add_row(name, _on_one_line(value))
    return grid


def _on_one_line(value: object) -> str:
    """Returns a value on one line: after a line break a tenant's text could pass for ours."""
    return _printable(str(value))


def _printable(text: str, *, lines: bool = False) -> str:
    # Most sentences need no change. The import loads the SDK, which --help does not need.
    if text.isascii() and text.isprintable():
        return text
    from temporal_tenancy.core.display import printable

    return printable(text, lines=lines)


def when(moment: datetime | None) -> str | None:
    """Returns a time in UTC for people."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def number(count: int, noun: str) -> str:
    """Returns a count with its noun, such as `1 tenant` or `2 tenants`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")

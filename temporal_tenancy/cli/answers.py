"""What a command prints: one JSON document, or a few lines for a person."""

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

WIDE: Final = 10_000  # columns, where no terminal says how many: nothing is cut off

out: Final = Console(highlight=False, emoji=False, markup=False)
err: Final = Console(highlight=False, emoji=False, markup=False, stderr=True)
for console in (out, err):
    if not console.is_terminal:
        console.width = WIDE


class OutputLost(Exception):
    """A command's answer cannot be written."""


@dataclass(frozen=True)
class Problem:
    """Why a command that did its work still ends with exit code 1."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    document: Any  # what json.dumps takes; times and models too
    text: RenderableType  # for a person
    problem: Problem | None = None


def perform(command: Coroutine[None, None, Answer], *, json: bool) -> None:
    """Runs a command and prints its answer; raises `typer.Exit(1)` if the answer has a problem.

    Every other exception is left to `failures.report`.
    """
    with closing(command):
        current_application()  # its jobs are known from here on
        answer = asyncio.run(command)
    if json:
        document = answer.document
        if answer.problem is not None:
            document = {**document, "error": vars(answer.problem)}
        print_json(document)
    else:
        with _writing(), out.capture() as shown:
            out.print(_Printable(answer.text), crop=False)
        # The blanks that fill up a column are in the way of copying and comparing.
        write("\n".join(line.rstrip() for line in shown.get().splitlines()))
    if answer.problem is not None:
        say(str(answer.problem))
        raise typer.Exit(1)


def print_json(document: Any) -> None:
    """Prints a JSON document (whatever json.dumps takes) on standard output.

    Control characters are escaped as in JSON, so that a terminal does not act on them and whoever
    parses the document reads the same text.
    """
    text = json_module.dumps(document, indent=2, ensure_ascii=False, default=_as_json)
    from temporal_tenancy.core.printable import printable_json

    write(printable_json(text))


def write(text: str) -> None:
    """Prints lines on standard output.

    Raises `OutputLost` if they cannot be written, and `BrokenPipeError` if nobody reads them.
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
    """Sends the rest of standard output nowhere, once its reader has gone or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(sentence: str) -> None:
    """Tells a person something on standard error."""
    with suppress(OSError):  # nobody reads it; the command goes on
        print(_printable(sentence), file=sys.stderr)


@dataclass(frozen=True)
class _Printable:
    """Text for a person, with its control characters spelled out."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.shown, options):
            if segment.control is None:
                yield segment._replace(text=_printable(segment.text, lines=True))
            else:
                yield segment


def lines(*parts: RenderableType | None) -> RenderableType:
    """The parts that are not None, one below the other."""
    there_are = (part for part in parts if part is not None)
    return Group(*(_on_one_line(part) if isinstance(part, str) else part for part in there_are))


def address(url: str | None, *before: object) -> RenderableType | None:
    """A URL that no terminal breaks into lines, after the words before it."""
    if url is None and not before:
        return None
    words = [*map(_on_one_line, before), *([url] if url else [])]
    return Text("  ".join(words), no_wrap=True, overflow="ignore")


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    """Aligned columns without rules; None is shown as nothing."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        made.add_column(title, overflow="fold")
    for row in rows:
        made.add_row(*("" if cell is None else _on_one_line(cell) for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Names with their values; None and empty values are left out."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            made.add_row(name, _on_one_line(value))
    return made


def _on_one_line(value: object) -> str:
    """A value on one line: after a line break, text of a tenant's could pass for ours."""
    return _printable(str(value))


def _printable(text: str, *, lines: bool = False) -> str:
    # Most sentences need nothing. The function brings the SDK with it, and --help does without.
    if text.isascii() and text.isprintable():
        return text
    from temporal_tenancy.core.printable import printable

    return printable(text, lines=lines)


def when(moment: datetime | None) -> str | None:
    """A time for people, in UTC."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def number(count: int, noun: str) -> str:
    """`1 tenant`, `2 tenants`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")

"""The end of a log, short and readable: what a part said last, and the error that ended it."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

READ_LINES: Final = 400  # of a log's end: a traceback is long
SHOWN_LINES: Final = 4
SHOWN_LENGTH: Final = 200  # characters of a line
RECENT: Final = timedelta(minutes=1)

# Fields of a JSON line that only machines need, or that its other fields say already.
_UNSHOWN: Final = frozenset(
    (
        *("timestamp", "level", "event", "exception", "worker", "logger", "run_id", "attempt"),
        *("scope", "reason", "error_type", "details", "duration_seconds"),
    )
)
_SAID_BY_JOB_ID: Final = frozenset(("job", "tenant_id"))

_POSTGRES: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[.\d]* UTC \[\d+\] "
    r"(?P<level>[A-Z]+\d?):\s+(?P<text>.*)"
)
_TEMPORAL: Final = re.compile(
    r'time=(?P<time>\S+) level=(?P<level>[A-Z]+) msg=(?P<text>"(?:[^"\\]|\\.)*"|\S+)(?P<rest>.*)'
)
_QUIET: Final = frozenset(("debug", "info", "log", "detail", "hint", "statement", "context"))

_FRAME: Final = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_ERROR: Final = re.compile(r"(?P<name>[A-Za-z_][\w.]*)(?P<text>: .*)?")
_IN_GROUP: Final = re.compile(r"^\s*\| ?")  # in front of each line of an exception group
_HEADER: Final = "Traceback (most recent call last):"
_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_MEANWHILE: Final = "During handling of the above exception, another exception occurred:"
_GROUPS: Final = ("ExceptionGroup", "BaseExceptionGroup")
_REFUSAL: Final = "ConfigurationError: "  # of a declaration or a setting
_BROKEN: Final = re.compile(
    r"ApplicationBroken: .* failed at (?P<file>.+?):(?P<line>\d+): (?P<error>\w+)(?P<why>.*)\."
)

# Errors of servers and of the machine, which may be gone at the next start.
_PASSING: Final = frozenset(
    (
        *("OperationalError", "InterfaceError", "InternalError", "RPCError", "DatabaseUnreachable"),
        *("NotReachable", "MemoryError", "KeyboardInterrupt", "SystemExit", "CancelledError"),
    )
)


@dataclass(frozen=True)
class Ending:
    """The error with which a Python program ended."""

    error: str  # such as "NameError: name 'x' is not defined"
    where: str  # such as "workflows/billing.py, line 12"; empty if unknown
    is_mistake: bool  # of the code: each start ends with it until the code changes

    def __str__(self) -> str:
        return f"{self.error} ({self.where})" if self.where else self.error


def ending(log: str, root: Path) -> Ending | None:
    """Returns the error with which a program's log ends, or None.

    Of errors that caused each other it is the first one. Its place is the innermost line of code in
    the folder `root`, without installed packages.
    """
    last = _after_the_structured(log.splitlines())
    raised = _raised(last)
    if raised is not None:
        text, frames = raised
        kind, colon, why = text.partition(":")
        name = kind.rpartition(".")[2]
        return Ending(f"{name}{colon}{why}", _place(frames, root), _is_mistake(name))
    for line in reversed(last):
        if broken := _BROKEN.fullmatch(line):
            where = _place([(str(root / broken["file"]), broken["line"])], root)
            kind = broken["error"]
            return Ending(f"{kind}{broken['why']}", where, _is_mistake(kind))
    refusals = [line for line in last if line.startswith(_REFUSAL)]
    return Ending(refusals[-1], "", is_mistake=True) if refusals else None


def last_words(log: str, root: Path, *, limit: int = SHOWN_LINES) -> list[str]:
    """Returns what to show of a log that ended: at most `limit` lines, none if it is empty.

    They are, of these, the first that there are: the error that ended the program; lines that have
    no format, such as a sentence; warnings and errors of the last minute; the last line. Lines with
    the same message are one, with their number.
    """
    error = ending(log, root)
    if error is not None:
        return [_cut(str(error))]
    lines = log.splitlines()
    plain = [line for line in _after_the_structured(lines) if line.strip()]
    if plain:
        return [_cut(line) for line in plain[-limit:]]
    told = [line for line in map(_read, lines) if line is not None]
    loud = [line for line in _recent(told) if line.level not in _QUIET]
    own = [line for line in told if line.is_event]
    return [_cut(line) for line in _counted(loud or (own or told)[-1:])][-limit:]


@dataclass(frozen=True)
class _Line:
    """A line with a format."""

    moment: datetime | None
    level: str  # in lower case
    message: str  # the same for all lines of its kind
    fields: str = ""
    is_event: bool = False  # whether the message is a token of this project's

    def __str__(self) -> str:
        time = "" if self.moment is None else f"{self.moment.astimezone():%H:%M:%S}"
        return " ".join(part for part in (time, self.level, self.message, self.fields) if part)


def _read(line: str) -> _Line | None:
    """Returns a line of a known format, or None."""
    if line.startswith("{"):
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and "event" in found:
                return _of_fields(found)
        return None
    if matched := _POSTGRES.fullmatch(line):
        return _Line(_moment(f"{matched['time']}+00:00"), matched["level"].lower(), matched["text"])
    if matched := _TEMPORAL.fullmatch(line):
        text = matched["text"]
        with suppress(ValueError):
            text = str(json.loads(text)) if text.startswith('"') else text
        return _Line(
            _moment(matched["time"]), matched["level"].lower(), text, matched["rest"].strip()
        )
    return None


def _of_fields(fields: Mapping[str, Any]) -> _Line:
    event, level = str(fields["event"]), str(fields.get("level", ""))
    unshown = _UNSHOWN | (_SAID_BY_JOB_ID if "job_id" in fields else frozenset())
    shown = {name: value for name, value in fields.items() if name not in unshown}
    raised = _raised(str(fields.get("exception", "")).splitlines())
    if raised is not None and "error" not in shown:
        shown["error"] = raised[0]
    elif "error_type" in fields and not str(shown.get("error", "")).startswith(
        str(fields["error_type"])
    ):
        shown["error"] = ": ".join(filter(None, (fields["error_type"], shown.get("error"))))
    return _Line(
        _moment(str(fields.get("timestamp", ""))),
        level,
        event,
        " ".join(f"{name}={_value(value)}" for name, value in shown.items()),
        is_event="." in event and " " not in event,
    )


def _value(value: Any) -> str:  # whatever JSON has
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if " " in text else text


def _moment(time: str) -> datetime | None:
    """Returns a moment in its time zone or, if it names none, this machine's."""
    try:
        return datetime.fromisoformat(time).astimezone()
    except ValueError:
        return None


def _recent(lines: Sequence[_Line]) -> Iterator[_Line]:
    """Yields the lines of the last minute before the last one."""
    for line in lines:
        last = lines[-1].moment
        if line.moment is None or last is None or last - line.moment <= RECENT:
            yield line


def _counted(lines: Sequence[_Line]) -> Iterator[str]:
    """Yields the last line of each kind, with how many there are."""
    kinds: dict[tuple[str, str], list[_Line]] = {}
    for line in lines:
        kinds.setdefault((line.level, line.message), []).append(line)
    for same in sorted(kinds.values(), key=lambda same: lines.index(same[-1])):
        times = f" (×{len(same)})" if len(same) > 1 else ""
        yield f"{same[-1]}{times}"


def _cut(line: str | _Line) -> str:
    text = str(line)
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 1]}…"


def _after_the_structured(lines: Sequence[str]) -> list[str]:
    """Returns the lines after the last one that has a format, or was to have one."""
    for number in range(len(lines), 0, -1):
        line = lines[number - 1]
        if line.startswith('{"timestamp"') or _read(line) is not None:
            return list(lines[number:])
    return list(lines)


def _raised(lines: Sequence[str]) -> tuple[str, list[tuple[str, str]]] | None:
    """Returns the first error of the last chain of tracebacks, and its (file, line) pairs."""
    chain: list[tuple[str, list[tuple[str, str]]]] = []
    frames: list[tuple[str, str]] = []
    for raw in lines:
        line = _IN_GROUP.sub("", raw)
        if line.strip() in (_HEADER, f"+ Exception Group {_HEADER}"):
            frames = []
        elif line == _MEANWHILE:
            chain = []
        elif matched := _FRAME.match(line):
            frames.append((matched["file"], matched["line"]))
        elif frames and line != _CAUSE and _ERROR.fullmatch(line):
            chain.append((line, frames))
            frames = []
    errors = [error for error in chain if error[0].partition(":")[0] not in _GROUPS]
    return next(iter(errors or chain), None)


def _place(frames: Sequence[tuple[str, str]], root: Path) -> str:
    """Returns the innermost file in `root` with its line; else the innermost one at all."""
    files = [(Path(file), line) for file, line in frames if not file.startswith("<")]
    own = [
        (file.relative_to(root), line)
        for file, line in files
        if file.is_relative_to(root) and not {"site-packages", ".venv"} & {*file.parts}
    ]
    for file, line in reversed(own or files):
        return f"{file}, line {line}"
    return ""


def _is_mistake(error: str) -> bool:
    known = getattr(builtins, error, None)
    is_of_system = isinstance(known, type) and issubclass(known, OSError)
    return error not in _PASSING and not is_of_system

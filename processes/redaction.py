"""Removes credentials and job payloads from log lines."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError
from structlog.typing import EventDict, WrappedLogger

HIDDEN: Final = "***"
DEPTH: Final = 4  # levels of nested mappings and lists that are logged

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_SECRET_NAME: Final = re.compile(
    r"passw(or)?d|secret|token|api_?key|private_?key|authorization|cookie|credential", re.IGNORECASE
)
# A port and what follows it is not a password. A password ends at the line's last "@": better to
# hide too much than to show the rest of a password that contains an "@".
_USERINFO: Final = re.compile(r"(://[^\s:/@]*):(?!\d{1,5}(?:[/?#\s\"]|$))[^\n]*@")
_ASSIGNMENT: Final = re.compile(
    r"(\b(?:password|passwd|pwd|secret|token|api[_-]?key|authorization)['\"]?\s*[=:]\s*)"
    r"('[^'\n]*'|\"[^\"\n]*\"|(?:bearer\s+)?[^\s,;]+)",
    re.IGNORECASE,
)


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor that hides credentials and the content of objects.

    It removes passwords in URLs and in `password=...` from strings, and hides values whose name
    marks them as secret. For other objects, such as an input model, it logs only the type's name.
    """
    return {
        name: value if name.startswith("_") else _shown(name, value, DEPTH)
        for name, value in event.items()
    }


def redacted(text: str) -> str:
    """Returns `text` without the passwords in it."""
    return _ASSIGNMENT.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"\1:{HIDDEN}@", text))


def format_exception(exc_info: ExceptionInfo) -> str:
    """Renders a traceback without local variables, and without the values of invalid input."""
    kind, error, trace = exc_info
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    for each in _with_its_causes(error, set()):
        if isinstance(each, ValidationError):
            text = text.replace(str(each), _validation_summary(each))
    return text


def _shown(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAME.search(name):
        return HIDDEN
    if isinstance(value, Enum):
        return _shown(name, value.value, depth)
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, ValidationError):
        return _validation_summary(value)
    if isinstance(value, date | timedelta | UUID | PurePath | BaseException):
        return redacted(str(value))
    if isinstance(value, Mapping) and depth:
        return {str(key): _shown(str(key), each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_shown(name, each, depth - 1) for each in value]
    return f"<{type(value).__name__}>"


def _validation_summary(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    fields = ", ".join(".".join(map(str, problem["loc"])) or "input" for problem in problems)
    return f"{error.title}: {error.error_count()} invalid: {fields}"


def _with_its_causes(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for each in (error.__cause__, error.__context__, *inner):
        yield from _with_its_causes(each, seen)

"""Removes credentials and job payloads from log lines."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from temporal_tenancy.core import redacted, shown, traceback_of
from temporal_tenancy.sdk import is_of_a_job

__all__ = ["format_exception", "redact", "redacted", "with_exception"]

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_HTTP_SERVER: Final = "uvicorn"  # its lines about an error are about the request that raised it


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor that hides credentials and the content of objects.

    It removes passwords in URLs and in `password=...` from strings, and hides values whose name
    marks them as secret. For other objects, such as an input model, it logs only the type's name.
    """
    return {
        name: value if name.startswith("_") else shown(name, value) for name, value in event.items()
    }


def format_exception(exc_info: ExceptionInfo, *, of_a_job: bool = False) -> str:
    """Renders a traceback without local variables, and without the values of invalid input."""
    return traceback_of(exc_info[1], of_a_job=of_a_job)


def with_exception(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor that renders a line's exception; of a job's, not all of its words."""
    source = str(event.get("logger", ""))
    of_a_job = is_of_a_job(event, source) or source.partition(".")[0] == _HTTP_SERVER
    rendering = partial(format_exception, of_a_job=of_a_job)
    return structlog.processors.ExceptionRenderer(rendering)(logger, method, event)

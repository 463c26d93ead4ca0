"""The process's logs on standard error: JSON for machines, or text on a terminal.

Lines from structlog and from the standard library's loggers, including `workflow.logger` and
`activity.logger`, go through one handler and have one format.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger
from temporalio import activity, workflow

from processes.redaction import redact, with_exception
from saas.hints import message_with_hint, summary_with_hint, with_hint
from temporal_tenancy.core import printable, printable_json
from temporal_tenancy.sdk import SDK_EXTRAS, add_job, is_news

Format = Literal["console", "json"]

# At DEBUG these log whole messages, including payloads.
NOT_BELOW_INFO: Final = (
    *("temporalio", "psycopg", "asyncio", "alembic", "sqlalchemy", "uvicorn"),
    "httpcore",
)
# It logs the URL of each request, at INFO too: a webhook's may be its only secret.
NOT_BELOW_WARNING: Final = ("httpx",)


def configure(
    level: str = "info",
    format: Format | None = None,
    *,
    worker: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Sends all log lines of the process to `stream`, once and in one format.

    Args:
        level: the lowest level to log: debug, info, warning or error. Packages that put payloads
            into their debug lines stay at info, and those that log URLs at warning.
        format: one JSON object per line, or text for people; by default text on a terminal, else
            JSON.
        worker: the identity of this process's workers.
        stream: standard error if not given.
    """
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler(format=format, worker=worker, stream=stream))
    root.setLevel(level.upper())
    lowest = dict.fromkeys(NOT_BELOW_INFO, logging.INFO)
    lowest |= dict.fromkeys(NOT_BELOW_WARNING, logging.WARNING)
    for name, limit in lowest.items():
        package = logging.getLogger(name)
        if package.getEffectiveLevel() < limit:
            package.setLevel(limit)
    # The fields have this already, and with it in the message no two lines would be alike.
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def handler(
    *, format: Format | None = None, worker: str | None = None, stream: TextIO | None = None
) -> logging.StreamHandler[TextIO]:
    """Returns the handler that `configure` adds to the root logger."""
    stream = stream or sys.stderr
    chosen: Format = format or ("console" if stream.isatty() else "json")
    made = logging.StreamHandler(stream)
    made.setFormatter(_formatter(chosen, worker, colors=stream.isatty()))
    made.addFilter(is_news)
    return made


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """A formatter of our own type, by which `configure` recognises its handler."""


class _JobContext:
    """Adds the fields of the line's job, and the worker's identity."""

    def __init__(self, worker: str | None) -> None:
        self.worker = worker

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        add_job(event, self.worker)
        for name in SDK_EXTRAS:
            event.pop(name, None)
        return event


def _formatter(format: Format, worker: str | None, *, colors: bool) -> _Formatter:
    renderer: Processor = (
        structlog.processors.JSONRenderer(_as_json)
        if format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    )
    return _Formatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _without_its_text],
        processors=[
            _JobContext(worker),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            with_exception,
            redact,
            _with_hints,
            _Formatter.remove_processors_meta,
            _in_order,
            *([] if format == "json" else [_printable]),
            renderer,
        ],
    )


def _as_json(event: Any, **options: Any) -> str:  # called by structlog
    return printable_json(json.dumps(event, ensure_ascii=False, **options))


def _printable(logger: object, method: str, event: EventDict) -> EventDict:
    """Removes terminal control characters from a line's texts; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, lines=name == "exception")
    return event


def _without_its_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    # Another handler that formatted the record earlier leaves these two on it.
    for name in ("message", "asctime"):
        event.pop(name, None)
    return event


def _with_hints(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Adds the command to run next to the library's messages."""
    match event:
        case {"event": "alert.raised", "alert": str(alert), "summary": str(summary)}:
            event["summary"] = summary_with_hint(alert, summary)
        case {"error_type": str(kind), "error": str(error)}:
            event["error"] = message_with_hint(kind, error)
        case {"error": str(sentence)}:
            event["error"] = with_hint(sentence)
    return event


def _in_order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Puts the fields that every line has first, so that they are easy to find."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return {**first, **event}

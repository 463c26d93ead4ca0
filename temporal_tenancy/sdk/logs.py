"""Structured logs: every line of a job says whose it is, which run it is of, and who worked on it.

Lines of structlog and of the standard library's loggers, `workflow.logger` and `activity.logger`
among them, go through one handler and come out alike.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger
from temporalio import activity, workflow

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.printable import printable, printable_json
from temporal_tenancy.core.redaction import format_exception, redact
from temporal_tenancy.core.scope import PlatformScope, TenantScope, last_scope

Format = Literal["console", "json"]

FIELDS: Final = ("tenant_id", "job", "job_id", "run_id", "attempt", "worker")
"""What every line of a job has. `job_id` is the workflow id. A line of the platform's work has
`scope` and `reason`, and no `tenant_id` unless it is about one."""

# At DEBUG these write out whole messages, with the payloads in them.
NOT_BELOW_INFO: Final = ("temporalio", "psycopg", "asyncio", "alembic", "sqlalchemy", "uvicorn")

# Left on the records by the SDK, which puts more into them than a line needs.
_SDK_DETAILS: Final = ("temporal_workflow", "temporal_activity")
_SDK_OBJECTS: Final = (
    "workflow_info",
    "activity_info",
    "temporal_log",
    "__temporal_error_identifier",
)
_TOLD: Final = "__tenancy_told__"


def job_fields() -> dict[str, Any]:  # names to strings and numbers
    """What is known of the job that the running code is part of; empty outside any."""
    fields: dict[str, Any] = {}
    if activity.in_activity():
        run = activity.info()
        fields = _fields_of(
            run.workflow_id, run.workflow_type, run.workflow_run_id, run.attempt, run.activity_type
        )
    elif workflow.in_workflow():
        here = workflow.info()
        fields = _fields_of(here.workflow_id, here.workflow_type, here.run_id, here.attempt)
    scope = last_scope()  # of closed scopes too: whose the line is does not change
    if isinstance(scope, TenantScope):
        fields["tenant_id"] = scope.tenant_id
    elif isinstance(scope, PlatformScope):
        fields |= {"scope": PLATFORM, "reason": scope.reason}
    return fields


class JobContext:
    """A structlog processor that adds `job_fields()` to a line, and the worker's identity."""

    def __init__(self, worker: str | None = None) -> None:
        """`worker` is the identity under which this process polls."""
        self.worker = worker

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Adds the fields. What is known wins over what the line claims."""
        fields = job_fields()
        for name in _SDK_DETAILS:
            details = event.pop(name, None)
            if details and not fields:  # the SDK speaks of a run, from outside it
                fields = _fields_of_details(details)
        for name in _SDK_OBJECTS:
            event.pop(name, None)
        event.update(fields)
        if "tenant_id" not in event and "scope" not in event and "job_id" in event:
            event.update(_owner(event["job_id"]))
        if self.worker is not None:
            event["worker"] = self.worker
        return event


def configure(
    *,
    level: str = "info",
    format: Format = "json",
    worker: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Sends all log lines of the process, once and alike, to `stream` (standard error).

    Args:
        level: the least that is written: debug, info, warning or error. Packages that put
            payloads into their debug lines are kept at info.
        format: one JSON object a line, or text for people.
        worker: the identity of this process's workers.
        stream: where to.
    """
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler(format=format, worker=worker, stream=stream))
    root.setLevel(level.upper())
    for name in NOT_BELOW_INFO:
        package = logging.getLogger(name)
        if package.getEffectiveLevel() < logging.INFO:
            package.setLevel(logging.INFO)
    # Their message says what the fields say too, and would be a different one on each line.
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
    *, format: Format, worker: str | None = None, stream: TextIO | None = None
) -> logging.Handler:
    """The handler that `configure` puts on the root logger, for a logging set-up of one's own."""
    stream = stream or sys.stderr
    made = logging.StreamHandler(stream)
    made.setFormatter(_formatter(format, worker, colors=stream.isatty()))
    made.addFilter(_once)
    return made


def told(error: BaseException) -> None:
    """Marks a failure as logged with its job, so that the SDK's own line of it is left out."""
    setattr(error, _TOLD, True)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Marks the handler as ours."""


def _as_json(event: Any, **options: Any) -> str:  # as structlog calls it
    return printable_json(json.dumps(event, ensure_ascii=False, **options))


def _printable(logger: object, method: str, event: EventDict) -> EventDict:
    """Leaves nothing in a line's own texts that a terminal obeys; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, lines=name == "exception")
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
            JobContext(worker),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(format_exception),
            redact,
            _Formatter.remove_processors_meta,
            _in_order,
            *([] if format == "json" else [_printable]),
            renderer,
        ],
    )


def _without_its_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    # Another handler that formatted the record before left these two on it.
    for name in ("message", "asctime"):
        event.pop(name, None)
    return event


def _in_order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """What every line has comes first: the eye finds it."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return {**first, **event}


def _once(record: logging.LogRecord) -> bool:
    """Whether a record is news: no replay of a workflow's past, and not told already."""
    if workflow.in_workflow() and workflow.unsafe.is_replaying_history_events():
        return False
    if record.name == activity.logger.name and record.exc_info:
        return not getattr(record.exc_info[1], _TOLD, False)
    return True


def _fields_of(
    workflow_id: str | None,
    workflow_type: str | None,
    run_id: str | None,
    attempt: int | None,
    activity_type: str | None = None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"job": workflow_type}
    if workflow_id is not None:
        fields |= _owner(workflow_id)
        fields |= {"job_id": workflow_id, "run_id": run_id}
    fields["attempt"] = attempt
    if activity_type is not None:
        fields["activity"] = activity_type
    return fields


def _fields_of_details(details: Mapping[str, Any]) -> dict[str, Any]:
    return _fields_of(
        details.get("workflow_id"),
        details.get("workflow_type"),
        details.get("workflow_run_id", details.get("run_id")),
        details.get("attempt"),
        details.get("activity_type"),
    )


def _owner(workflow_id: str) -> dict[str, str]:
    """Whose a workflow is and of which job, by its id; nothing where the id does not say."""
    # Not WorkflowId.parse: a line is written about a malformed id too, and costs microseconds.
    parts = workflow_id.split("/", 2)
    if len(parts) != 3:
        return {}
    owner, job, _ = parts
    return {"job": job, **({"scope": PLATFORM} if owner == PLATFORM else {"tenant_id": owner})}

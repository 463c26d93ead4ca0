"""Reports failures and refusals to Sentry, or to a server that speaks its protocol.

What is reported is what the log says: the type of the error, its frames, and whose job it was. No
event has a payload, a local variable, a request, or words that may quote one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import sentry_sdk
from sentry_sdk.types import Event
from sentry_sdk.utils import BadDsn, Dsn, event_from_exception
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.redaction import (
    HIDDEN,
    is_for_people,
    redacted,
    with_causes,
    words_of,
)
from temporal_tenancy.core.trace_context import trace_ids
from temporal_tenancy.sdk.logs import add_job, is_news

STOP_WITHIN: Final = timedelta(seconds=2)
EVENTS: Final = frozenset(
    {
        "activity.failed",
        "activity.refused",
        "message.dead",
        "signal.dropped",
        "workflow.failed",
        "workflow.refused",
    }
)
"""The library's log events that are reported, beside every error with a traceback.

A failure is reported once: by the last attempt of an activity, or else by the run that it ends. The
dead letter of the run, and the run whose activity has reported, say the same again.
"""
_UNREADABLE: Final = "Completing activity as failed"
"""Begins the SDK's line of an attempt that failed before it reached the library's own code."""
_TAGS: Final = {
    "tenant_id": "tenant_id",
    "job": "job",
    "job_id": "workflow_id",
    "run_id": "run_id",
    "attempt": "attempt",
    "activity": "activity",
    "scope": "scope",
    "error_type": "error_type",
    "worker": "worker",
}
_OPTIONS: Final[dict[str, Any]] = {
    "attach_stacktrace": False,
    "auto_enabling_integrations": False,
    "auto_session_tracking": False,
    "default_integrations": False,
    "include_local_variables": False,
    "max_breadcrumbs": 0,
    "max_request_body_size": "never",
    "send_client_reports": False,
}


class ErrorReports:
    """The process's error reports, while they are on."""

    def __init__(self, client: sentry_sdk.Client, handler: logging.Handler) -> None:
        self._client = client
        self._handler = handler

    def stop(self, within: timedelta = STOP_WITHIN) -> None:
        """Sends what waits, for at most `within`, and turns reports off."""
        logging.getLogger().removeHandler(self._handler)
        self._client.close(timeout=within.total_seconds())


def start_error_reports(
    dsn: str,
    *,
    environment: str | None = None,
    release: str | None = None,
    worker: str | None = None,
) -> ErrorReports:
    """Reports this process's failures and refusals, through a client of its own.

    An application's own use of Sentry is not affected. Reports are sent by a thread of their own;
    while the server does not answer, nothing waits for it.

    Args:
        dsn: the project's address, `https://key@host/project`.
        environment: such as "production".
        release: of the application.
        worker: the identity that this process polls with.

    Raises:
        ConfigurationError: `dsn` is not such an address.
    """
    try:
        Dsn(dsn)
    except BadDsn:  # which repeats a part of it
        raise ConfigurationError(
            "the address for error reports must be https://key@host/project."
        ) from None
    client = sentry_sdk.Client(
        dsn=dsn,
        environment=environment,
        release=release,
        shutdown_timeout=STOP_WITHIN.total_seconds(),
        **_OPTIONS,
    )
    handler = _Reporter(client, worker)
    logging.getLogger().addHandler(handler)
    return ErrorReports(client, handler)


class _Reporter(logging.Handler):
    """A handler that turns some records into events."""

    def __init__(self, client: sentry_sdk.Client, worker: str | None) -> None:
        super().__init__(logging.INFO)
        self._client = client
        self._worker = worker
        self.addFilter(is_news)

    def emit(self, record: logging.LogRecord) -> None:
        """Reports a failure or a refusal; never raises."""
        try:
            if _is_reported(record):
                fields = {**vars(record)}
                add_job(fields, self._worker)
                # A scope of its own: nothing of a request or of earlier lines.
                self._client.capture_event(
                    _event(record, fields, self._client.options), scope=sentry_sdk.Scope()
                )
        except Exception:
            self.handleError(record)


def _is_reported(record: logging.LogRecord) -> bool:
    if record.name.startswith("sentry_sdk"):
        return False
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ApplicationError) and error.category == ApplicationErrorCategory.BENIGN:
        return False
    is_of_sdk = record.name == activity.logger.name and record.getMessage().startswith(_UNREADABLE)
    if is_of_sdk and error is not None:
        return True
    if not _is_for_good(record):
        return False
    told = record.name.startswith("temporal_tenancy.") and record.msg in EVENTS
    return told or (error is not None and record.levelno >= logging.ERROR)


def _is_for_good(record: logging.LogRecord) -> bool:
    if record.msg == "activity.failed":
        return getattr(record, "is_last", True)
    return record.msg != "workflow.failed" or not getattr(record, "is_told", False)


def _event(record: logging.LogRecord, fields: Mapping[str, Any], options: dict[str, Any]) -> Event:
    event: dict[str, Any] = {}
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        event, _ = event_from_exception(error, client_options=options)  # type: ignore[assignment]
        for value in event["exception"]["values"]:
            value["value"] = _words(value.get("value"), error)
            value.pop("mechanism", None)
            for frame in (value.get("stacktrace") or {}).get("frames", ()):
                frame.pop("vars", None)
    else:
        told = fields.get("error") or fields.get("why")
        kind = fields.get("error_type")
        words = [record.getMessage(), *(str(each) for each in (kind, told) if each)]
        event["logentry"] = {"message": redacted(": ".join(words))}
    event["level"] = record.levelname.lower()
    event["logger"] = record.name
    event["transaction"] = fields.get("job")
    tags = {tag: str(fields[name]) for name, tag in _TAGS.items() if fields.get(name) is not None}
    event["tags"] = {"event": record.getMessage(), **tags} if record.msg in EVENTS else tags
    if ids := trace_ids():
        event["contexts"] = {"trace": ids}
    return event  # type: ignore[return-value]


def _words(value: str | None, error: BaseException) -> str | None:
    """Returns what may be told of an error of the chain; the event knows only its text."""
    for each in with_causes(error):
        if is_for_people(each) and value in (str(each), getattr(each, "message", None)):
            return words_of(each)
    return HIDDEN if value else value

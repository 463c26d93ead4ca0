"""Spans say whose they are, and not what an error quotes."""

from __future__ import annotations

import re
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status, StatusCode

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.sdk.logs import job_fields, owner_of

PREFIX: Final = "tenancy."
# What instrumentations put on spans that can hold a payload or a credential: an error's words, a
# URL, a header, a statement with its values. The error's type, the route and the table stay.
_WITHHELD: Final = re.compile(
    r"exception\.(message|stacktrace)|url\.(full|path|query)|http\.(url|target)"
    r"|http\.(request|response)\.(header|body)\b.*|db\.statement.*|db\.query\.(text|parameter).*"
)
ERROR_TYPE: Final = "error.type"
UNKNOWN_ERROR: Final = "_OTHER"  # of OpenTelemetry's conventions
_EXCEPTION: Final = "exception.type"
_TYPE: Final = re.compile(r"[A-Za-z_][\w.]*")
# The SDK's name of the attribute, on the span of a start.
_WORKFLOW_ID: Final = "temporalWorkflowID"
_TENANT: Final = f"{PREFIX}tenant_id"
_NAMES: Final = {
    "tenant_id": _TENANT,
    "job": f"{PREFIX}job",
    "job_id": f"{PREFIX}workflow_id",
    "run_id": f"{PREFIX}run_id",
    "attempt": f"{PREFIX}attempt",
    "activity": f"{PREFIX}activity",
    "scope": f"{PREFIX}scope",
}
_INHERITED: Final = (f"{PREFIX}job", f"{PREFIX}workflow_id", f"{PREFIX}run_id", _TENANT)


class TenantSpans(SpanProcessor):
    """Puts the tenant and the job on each span, and passes on what may be exported."""

    def __init__(self, exporting: SpanProcessor) -> None:
        self._exporting = exporting

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Adds the attributes of the running code's job."""
        fields = job_fields()
        given = span.attributes or {}
        workflow_id = given.get(_WORKFLOW_ID)
        if isinstance(workflow_id, str) and workflow_id:
            # The run that the span is about; code of the platform may start a tenant's.
            fields = {**fields, **owner_of(workflow_id), "job_id": workflow_id}
            if fields.get("scope") == PLATFORM and "tenant_id" not in owner_of(workflow_id):
                fields.pop("tenant_id", None)
        own = {_NAMES[name]: fields[name] for name in _NAMES if fields.get(name) is not None}
        # The platform's work inside a tenant's, such as a look at the directory, is that tenant's.
        above = getattr(trace.get_current_span(parent_context), "attributes", None) or {}
        for name in _INHERITED:
            if name in above and _TENANT not in own:
                own[name] = above[name]
        span.set_attributes({name: own[name] for name in own if name not in given})

    def on_end(self, span: ReadableSpan) -> None:
        """Passes the span on, without the words of errors."""
        self._exporting.on_end(without_words(span))

    def shutdown(self) -> None:
        """Ends the export."""
        self._exporting.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Exports what has ended; returns whether that was in time."""
        return self._exporting.force_flush(timeout_millis)


def without_words(span: ReadableSpan) -> ReadableSpan:
    """Returns a copy of an ended span that has the types of its errors, and none of their words."""
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes={**_failed(span), **_told(span.attributes)},
        events=[Event(each.name, _told(each.attributes), each.timestamp) for each in span.events],
        links=span.links,
        kind=span.kind,
        status=_status(span.status),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _told(attributes: Any) -> dict[str, Any]:  # OpenTelemetry's values
    return {
        name: value for name, value in (attributes or {}).items() if not _WITHHELD.fullmatch(name)
    }


def _failed(span: ReadableSpan) -> dict[str, str]:
    """Returns the type of the error of a span that failed, which few instrumentations set."""
    if span.status.status_code is not StatusCode.ERROR:
        return {}
    names = [(each.attributes or {}).get(_EXCEPTION) for each in span.events]
    found = [name for name in names if isinstance(name, str)]
    named = found[-1] if found else _status(span.status).description or UNKNOWN_ERROR
    return {ERROR_TYPE: named.rpartition(".")[2]}


def _status(status: Status) -> Status:
    kind = (status.description or "").partition(":")[0]
    return Status(status.status_code, kind if _TYPE.fullmatch(kind) else None)

"""An exporter that keeps the spans, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from temporal_tenancy.tracing import Tracing


class Collected(SpanExporter):
    """Keeps what is exported; a process has one, since its provider stays."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.tracing: Tracing | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keeps them."""
        self.spans += spans
        return SpanExportResult.SUCCESS

    def of_trace(self, trace_id: str) -> list[ReadableSpan]:
        """Returns the spans of a trace that have ended."""
        assert self.tracing is not None
        assert self.tracing.flush()
        return [each for each in self.spans if trace_of(each) == trace_id]


def trace_of(span: ReadableSpan) -> str:
    """Returns the trace of a span, in hexadecimal."""
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


def text_of(spans: Sequence[ReadableSpan]) -> str:
    """Returns all that spans say."""
    return "\n".join(span.to_json() for span in spans)

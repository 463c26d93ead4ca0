"""Turns tracing on for a process: the provider of spans, their export, and the SDK's plugin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.util.types import Attributes
from temporalio.contrib.opentelemetry import (
    OpenTelemetryPlugin,
    ReplaySafeTracerProvider,
    create_tracer_provider,
)

from temporal_tenancy.core.errors import ConfigurationError, MissingExtra
from temporal_tenancy.core.trace_context import Kind, OpenSpan, Value, use_tracer
from temporal_tenancy.tracing._spans import ERROR_TYPE, TenantSpans

STOP_WITHIN: Final = timedelta(seconds=2)

_KINDS: Final = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "internal": SpanKind.INTERNAL,
}
_lock: Final = threading.Lock()


class Tracing:
    """The process's tracing, while it is on."""

    def __init__(self, provider: ReplaySafeTracerProvider, sampler: Sampler) -> None:
        self._provider = provider
        self._sampler = sampler
        self.plugin = OpenTelemetryPlugin(add_temporal_spans=True)
        """The SDK's plugin, for the client, before or after `TenancyPlugin`."""

    def flush(self, within: timedelta = STOP_WITHIN) -> bool:
        """Exports the spans that have ended; returns whether that was done in time."""
        return self._in_time(self._provider.force_flush, within)

    def stop(self, within: timedelta = STOP_WITHIN) -> bool:
        """Exports what has ended and turns tracing off, for good; returns whether it was in time.

        A collector that does not answer is not waited for: the spans are lost.
        """
        use_tracer(None)
        return self._in_time(self._provider.shutdown, within)

    def traceparent(self) -> str | None:
        """Returns the running code's W3C context; None outside a trace."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def span(
        self, name: str, kind: Kind, parents: Sequence[str] | None
    ) -> AbstractContextManager[OpenSpan]:
        """Runs the block in a span; see `temporal_tenancy.core.span`."""
        return self._open(name, kind, parents)

    @contextmanager
    def _open(self, name: str, kind: Kind, parents: Sequence[str] | None) -> Iterator[OpenSpan]:
        context, links = None, []
        if parents is not None:
            context = Context()  # nothing else of the running code's: no baggage
            contexts = [_context(parent, self._sampler, name) for parent in parents]
            if contexts:
                context = trace.set_span_in_context(trace.NonRecordingSpan(contexts[0]), context)
            links = [Link(each) for each in contexts[1:]]
        tracer = trace.get_tracer(__name__)
        with tracer.start_as_current_span(
            name, context, _KINDS[kind], links=links, record_exception=False
        ) as span:
            yield _Open(span)

    def _in_time(self, work: Callable[[], object], within: timedelta) -> bool:
        thread = threading.Thread(target=work, name="tracing", daemon=True)
        thread.start()
        thread.join(within.total_seconds())
        return not thread.is_alive()


_started: Final[list[Tracing]] = []  # at most one


def start_tracing(service: str, *, exporter: SpanExporter | None = None) -> Tracing:
    """Turns tracing on in this process, or returns the tracing that is on.

    The standard variables `OTEL_*` apply: where the collector is, how many traces are sampled, the
    resource's attributes, the sizes of batches. Spans are exported by a thread of their own; while
    the collector does not answer, nothing waits for it, and spans are dropped.

    Args:
        service: the service's name, unless OTEL_SERVICE_NAME names it.
        exporter: what sends the spans; by default OTLP over HTTP.

    Raises:
        ConfigurationError: the process has another tracer provider already.
    """
    with _lock:
        if _started:
            return _started[0]
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        sampler = TracerProvider(shutdown_on_exit=False).sampler  # that of the variables
        provider = create_tracer_provider(sampler, resource=resource, shutdown_on_exit=False)
        exporting = BatchSpanProcessor(exporter or OTLPSpanExporter())
        provider.add_span_processor(TenantSpans(exporting))
        _keep_tracers(provider)
        trace.set_tracer_provider(provider)
        if trace.get_tracer_provider() is not provider:
            provider.shutdown()
            raise ConfigurationError(
                "this process has a tracer provider already, whose spans would quote what errors "
                "quote. Call start_tracing() first, with an exporter if you need your own."
            )
        _trace_sql()
        tracing = Tracing(provider, sampler)
        use_tracer(tracing)
        _started.append(tracing)
        return tracing


def _keep_tracers(provider: ReplaySafeTracerProvider) -> None:
    """Has a provider make one tracer of each name.

    It makes one at each call otherwise, which takes as long as a span, and the SDK's interceptors
    call it for each span.
    """
    made = provider.get_tracer
    kept = lru_cache(maxsize=1_000)(made)

    def get_tracer(
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes | None = None,
    ) -> Tracer:
        named = instrumenting_module_name, instrumenting_library_version, schema_url
        return made(*named, attributes) if attributes else kept(*named)

    provider.get_tracer = get_tracer  # type: ignore[method-assign]


def _trace_sql() -> None:
    try:
        from temporal_tenancy.tracing._sql import trace_statements
    except (ModuleNotFoundError, MissingExtra):  # isolation alone, without a database
        return
    trace_statements()


class _Open:
    """The span of a block."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def describe(self, name: str | None = None, **attributes: Value) -> None:
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(attributes)

    def fail(self, error_type: str) -> None:
        self._span.set_attribute(ERROR_TYPE, error_type)
        self._span.set_status(Status(StatusCode.ERROR))


def _context(traceparent: str, sampler: Sampler, name: str) -> SpanContext:
    """Reads the context of a row, which its tenant may have written.

    It is sampled only if this process would sample a trace of that id that it began itself.
    """
    _, trace_id, span_id, given = traceparent.split("-")
    flags = TraceFlags(int(given, 16) & TraceFlags.SAMPLED)
    if flags.sampled:
        own = sampler.should_sample(Context(), int(trace_id, 16), name)
        flags = TraceFlags(TraceFlags.SAMPLED if own.decision is Decision.RECORD_AND_SAMPLE else 0)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)

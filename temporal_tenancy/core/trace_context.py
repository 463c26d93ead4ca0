"""The trace of the running code, as a message's row and a log line hold it.

There is none until `temporal_tenancy.tracing` is turned on: nothing here needs OpenTelemetry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from temporalio.client import Plugin

# W3C Trace Context, version 00: the ids of the trace and of the calling span, and the flags. The
# `tracestate` and the baggage, which hold anything, go with no row.
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


Value = str | int | bool
Kind = Literal["server", "client", "producer", "internal"]


class OpenSpan(Protocol):
    """The span of a block."""

    def describe(self, name: str | None = None, **attributes: Value) -> None:
        """Renames the span, and sets attributes."""

    def fail(self, error_type: str) -> None:
        """Marks the span as failed, by the type of the error."""


class Tracer(Protocol):
    """Knows the trace of the running code."""

    @property
    def plugin(self) -> Plugin:
        """For the process's clients."""

    def stop(self) -> bool:
        """Sends the last spans and turns tracing off; returns whether that was in time."""

    def traceparent(self) -> str | None:
        """Returns the running code's context; None outside a trace."""

    def span(
        self, name: str, kind: Kind, parents: Sequence[str] | None
    ) -> AbstractContextManager[OpenSpan]:
        """Runs the block in a span; see `span`."""


class _NoSpan:
    """What a block has while tracing is off."""

    def describe(self, name: str | None = None, **attributes: Value) -> None:
        """Does nothing."""

    def fail(self, error_type: str) -> None:
        """Does nothing."""


_tracers: Final[list[Tracer]] = []  # at most one: that of the process


def use_tracer(tracer: Tracer | None) -> None:
    """Sets the process's tracer; None turns tracing off."""
    _tracers[:] = [] if tracer is None else [tracer]


def client_plugins() -> list[Plugin]:
    """Returns the plugins that the process's clients need beside `TenancyPlugin`, if any."""
    return [tracer.plugin for tracer in _tracers]


def end_tracing() -> None:
    """Sends the last spans of the process, for a moment, if its traces are on."""
    for tracer in _tracers:
        tracer.stop()


def current_traceparent() -> str | None:
    """Returns the running code's W3C `traceparent`, 55 characters; None outside a trace."""
    return readable(_tracers[0].traceparent()) if _tracers else None


def trace_ids() -> dict[str, str]:
    """Returns the running code's `trace_id` and `span_id` in hexadecimal; empty outside a trace."""
    context = current_traceparent()
    if context is None:
        return {}
    _, trace_id, span_id, _ = context.split("-")
    return {"trace_id": trace_id, "span_id": span_id}


def span(
    name: str, kind: Kind = "internal", *, parents: Sequence[str | None] | None = None
) -> AbstractContextManager[OpenSpan]:
    """Runs the block in a span; while tracing is off, it only runs the block.

    Args:
        name: of the span. Names are few: no ids, and nothing that a caller chose.
        kind: OpenTelemetry's kind of the span.
        parents: None: the span is below the running code's. Otherwise `traceparent`s as rows hold
            them: the span is below the first that can be read, and linked to the others; with none
            it begins a trace.
    """
    if not _tracers:
        return nullcontext(_NoSpan())
    found = None if parents is None else list(dict.fromkeys(filter(None, map(readable, parents))))
    return _tracers[0].span(name, kind, found)


def readable(traceparent: str | None) -> str | None:
    """Returns a text that is a `traceparent`; None for any other."""
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return None
    return traceparent

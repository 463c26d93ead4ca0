"""Traces with OpenTelemetry: from a request through the outbox and the workflow to its SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.tracing.process import Tracing, start_tracing

__all__ = ["Tracing", "start_tracing"]

_WHERE: Final = {"Tracing": "process", "start_tracing": "process"}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

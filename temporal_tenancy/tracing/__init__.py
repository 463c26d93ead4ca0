"""Traces with OpenTelemetry, from a request to a job's SQL, and error reports with Sentry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.tracing._error_reports import ErrorReports, start_error_reports
    from temporal_tenancy.tracing._process import Tracing, start_tracing

__all__ = ["ErrorReports", "Tracing", "start_error_reports", "start_tracing"]

_WHERE: Final = {
    "ErrorReports": "_error_reports",
    "Tracing": "_process",
    "start_error_reports": "_error_reports",
    "start_tracing": "_process",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

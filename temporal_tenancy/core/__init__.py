"""Scopes, inputs, jobs and due times; this package does no I/O and sends no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.core.csv_safety import original_cell, quoted_rows, safe_cell
    from temporal_tenancy.core.display import printable, printable_json, spelled_out
    from temporal_tenancy.core.errors import MissingExtra
    from temporal_tenancy.core.failures import failure_of
    from temporal_tenancy.core.field_problems import problem_of_field
    from temporal_tenancy.core.inputs import Internal, internal_fields, refusal
    from temporal_tenancy.core.instants import days_from
    from temporal_tenancy.core.migration_environment import MigrationEnvironment
    from temporal_tenancy.core.nearest import did_you_mean, refuse_misspelled
    from temporal_tenancy.core.periods import month_bounds
    from temporal_tenancy.core.redaction import never_repeat, redacted, shown, traceback_of
    from temporal_tenancy.core.tasks import end_tasks
    from temporal_tenancy.core.tenant_state import require_runnable, require_startable
    from temporal_tenancy.core.trace_context import span
    from temporal_tenancy.core.words import duration, number, size_of

__all__ = [
    "Internal",
    "MigrationEnvironment",
    "MissingExtra",
    "days_from",
    "did_you_mean",
    "duration",
    "end_tasks",
    "failure_of",
    "internal_fields",
    "month_bounds",
    "never_repeat",
    "number",
    "original_cell",
    "printable",
    "printable_json",
    "problem_of_field",
    "quoted_rows",
    "redacted",
    "refusal",
    "refuse_misspelled",
    "require_runnable",
    "require_startable",
    "safe_cell",
    "shown",
    "size_of",
    "span",
    "spelled_out",
    "traceback_of",
]

_WHERE: Final = {
    "Internal": "inputs",
    "MigrationEnvironment": "migration_environment",
    "MissingExtra": "errors",
    "days_from": "instants",
    "did_you_mean": "nearest",
    "duration": "words",
    "end_tasks": "tasks",
    "failure_of": "failures",
    "internal_fields": "inputs",
    "month_bounds": "periods",
    "never_repeat": "redaction",
    "number": "words",
    "original_cell": "csv_safety",
    "printable": "display",
    "printable_json": "display",
    "problem_of_field": "field_problems",
    "quoted_rows": "csv_safety",
    "redacted": "redaction",
    "refusal": "inputs",
    "refuse_misspelled": "nearest",
    "require_runnable": "tenant_state",
    "require_startable": "tenant_state",
    "safe_cell": "csv_safety",
    "shown": "redaction",
    "size_of": "words",
    "span": "trace_context",
    "spelled_out": "display",
    "traceback_of": "redaction",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

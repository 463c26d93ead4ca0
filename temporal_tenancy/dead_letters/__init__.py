"""Jobs that have failed for good, and starting them again in their own tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.dead_letters.alerts import PAUSE, Alert, AlertSink
    from temporal_tenancy.dead_letters.feature import dead_letters, failed_runs_without_database
    from temporal_tenancy.dead_letters.workflows import SweepDeadLetters

__all__ = [
    "PAUSE",
    "Alert",
    "AlertSink",
    "SweepDeadLetters",
    "dead_letters",
    "failed_runs_without_database",
]

_WHERE: Final = {
    "PAUSE": "alerts",
    "Alert": "alerts",
    "AlertSink": "alerts",
    "SweepDeadLetters": "workflows",
    "dead_letters": "feature",
    "failed_runs_without_database": "feature",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

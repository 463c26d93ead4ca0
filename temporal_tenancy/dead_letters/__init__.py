"""Dead letters: jobs that have failed permanently, and their replay in their own tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.dead_letters._feature import dead_letters, failed_runs_without_database
    from temporal_tenancy.dead_letters._workflows import SweepDeadLetters
    from temporal_tenancy.dead_letters.alert_words import AlertWords
    from temporal_tenancy.dead_letters.alerts import PAUSE, Alert, AlertSink

__all__ = [
    "PAUSE",
    "Alert",
    "AlertSink",
    "AlertWords",
    "SweepDeadLetters",
    "dead_letters",
    "failed_runs_without_database",
]

_WHERE: Final = {
    "PAUSE": "alerts",
    "Alert": "alerts",
    "AlertSink": "alerts",
    "AlertWords": "alert_words",
    "SweepDeadLetters": "_workflows",
    "dead_letters": "_feature",
    "failed_runs_without_database": "_feature",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

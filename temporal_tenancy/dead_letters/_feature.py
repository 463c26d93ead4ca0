"""The feature of dead letters, and its part for workers without a database."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_tenancy.core.migration_environment import CONTROL_PLANE, OUTBOX
from temporal_tenancy.core.platform_schedules import PlatformSchedule
from temporal_tenancy.dead_letters._activities import (
    Alarm,
    find_dead_letters,
    forget_dead_letters,
    resolve_dead_letters,
)
from temporal_tenancy.dead_letters._failed_runs import record_failed_run
from temporal_tenancy.dead_letters._workflows import SweepDeadLetters
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.dead_letters.sweep import NAME
from temporal_tenancy.sdk.features import Feature


def dead_letters(alerts: Sequence[AlertSink] = (), *, queue: str | None = None) -> Feature:
    """Returns the feature that records dead letters and sweeps for those that no run recorded.

    The sweep also resolves letters whose jobs have succeeded since, deletes old ones, and sends
    alerts.

    Args:
        alerts: sinks that receive each alert, in addition to the log.
        queue: the task queue of the sweep, which runs each minute; None: "default".
    """
    return Feature(
        "dead letters",
        workflows=(SweepDeadLetters,),
        activities=(
            record_failed_run,
            find_dead_letters,
            resolve_dead_letters,
            forget_dead_letters,
            Alarm(alerts).tell_of_dead_letters,
        ),
        migrations=(CONTROL_PLANE, OUTBOX),
        schedules=(PlatformSchedule(NAME, "* * * * *", queue),),
    )


def failed_runs_without_database() -> Feature:
    """Returns the feature for a worker without a database: it accepts letters and stores none.

    So a workflow's history is the same with and without a database.
    """
    return Feature("failed runs", activities=(record_failed_run,))

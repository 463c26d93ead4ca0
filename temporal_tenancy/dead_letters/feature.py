"""The feature: dead letters of what fails permanently."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_tenancy.core.migration_environment import CONTROL_PLANE, OUTBOX
from temporal_tenancy.dead_letters.activities import (
    Alarm,
    find_dead_letters,
    forget_dead_letters,
    resolve_dead_letters,
)
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.dead_letters.failed_runs import record_failed_run
from temporal_tenancy.dead_letters.workflows import SweepDeadLetters
from temporal_tenancy.sdk.features import Feature


def dead_letters(alerts: Sequence[AlertSink] = ()) -> Feature:
    """The feature: letters of what fails for good, and the sweep that finds, settles and tells.

    `alerts` are the ways to people, beside the log.
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
    )


def failed_runs_without_database() -> Feature:
    """What a worker without a database serves, so that histories are the same with and without."""
    return Feature("failed runs", activities=(record_failed_run,))

"""Reconciling: compares the ticks that were due with those that ran."""

from __future__ import annotations

from datetime import timedelta

from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.core.platform_schedules import PlatformSchedule
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.ticks.reconcile._activities import (
    PRUNED_AT_ONCE,
    OldTicks,
    find_missed_ticks,
    settle_ticks,
)
from temporal_tenancy.ticks.reconcile._fairness import check_fairness
from temporal_tenancy.ticks.reconcile._suspensions import ReleaseActivities, release_activities
from temporal_tenancy.ticks.reconcile._workflows import ReconcileTicks

__all__ = ["ReconcileTicks", "ReleaseActivities", "reconcile"]


def reconcile(*, pruned_at_once: int = PRUNED_AT_ONCE, queue: str | None = None) -> Feature:
    """Returns the feature that finds missed ticks, settles lost ones and releases activities.

    Once a day it also checks whether the server serves backlogs fairly.

    Args:
        pruned_at_once: ledger rows that one transaction deletes.
        queue: the task queue of its scheduled jobs; None: "default".
    """
    return Feature(
        "reconcile",
        workflows=(ReconcileTicks, ReleaseActivities),
        activities=(
            find_missed_ticks,
            settle_ticks,
            OldTicks(pruned_at_once).prune_ticks,
            release_activities,
            check_fairness,
        ),
        migrations=(CONTROL_PLANE,),
        schedules=(
            PlatformSchedule("ticks.reconcile", "*/15 * * * *", queue),
            # The next run, a minute later, makes up for a late one.
            PlatformSchedule(
                "suspensions.release", "* * * * *", queue, catchup_window=timedelta(minutes=1)
            ),
        ),
    )

"""Compares what was due with what ran."""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.ticks.reconcile.activities import (
    PRUNED_AT_ONCE,
    OldTicks,
    find_missed_ticks,
    settle_ticks,
)
from temporal_tenancy.ticks.reconcile.suspensions import ReleaseActivities, release_activities
from temporal_tenancy.ticks.reconcile.workflows import ReconcileTicks

__all__ = ["ReconcileTicks", "ReleaseActivities", "reconcile"]


def reconcile(*, pruned_at_once: int = PRUNED_AT_ONCE) -> Feature:
    """The feature: finds missed ticks, settles lost ones, and releases paused activities.

    `pruned_at_once` is how many rows of the ledger one transaction deletes.
    """
    return Feature(
        "reconcile",
        workflows=(ReconcileTicks, ReleaseActivities),
        activities=(
            find_missed_ticks,
            settle_ticks,
            OldTicks(pruned_at_once).prune_ticks,
            release_activities,
        ),
        migrations=(CONTROL_PLANE,),
    )

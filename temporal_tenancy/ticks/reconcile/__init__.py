"""Compares what was due with what ran; `TenancyPlugin` puts these on every worker of workflows."""

from __future__ import annotations

from temporal_tenancy.ticks.reconcile.activities import find_missed_ticks, prune_ticks, settle_ticks
from temporal_tenancy.ticks.reconcile.suspensions import ReleaseActivities, release_activities
from temporal_tenancy.ticks.reconcile.workflows import ReconcileTicks

RECONCILE_WORKFLOWS = (ReconcileTicks, ReleaseActivities)
RECONCILE_ACTIVITIES = (find_missed_ticks, settle_ticks, prune_ticks, release_activities)

__all__ = ["RECONCILE_ACTIVITIES", "RECONCILE_WORKFLOWS", "ReconcileTicks", "ReleaseActivities"]

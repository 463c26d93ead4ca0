"""The platform job that finds missed ticks and settles lost ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from temporal_tenancy.core.jobs import JobPriority, platform_job
from temporal_tenancy.core.words import number
from temporal_tenancy.ticks.reconcile import _activities as activities
from temporal_tenancy.ticks.reconcile._fairness import check_fairness
from temporal_tenancy.ticks.reconcile._payloads import Reconciled

_EFFECT: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(minutes=30),
    "heartbeat_timeout": timedelta(minutes=1),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(minutes=1), maximum_attempts=10),
}
_CHECK: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(minutes=10),
    "heartbeat_timeout": timedelta(minutes=1),
    "retry_policy": RetryPolicy(maximum_attempts=3),
}
# Runs that began before reconciling checked fairness have no such activity in their histories.
_PATCH_FAIRNESS: Final = "temporal-tenancy.reconcile-checks-fairness"


@platform_job(
    "ticks.reconcile",
    reason="compares what was due with what ran, over all tenants",
    queue="default",
    priority=JobPriority.HIGH,
    execution_timeout=timedelta(hours=6),
)
class ReconcileTicks:
    """Finds ticks that never began, settles those whose fan-out was lost, and deletes old ones."""

    @workflow.run
    async def run(self) -> Reconciled:
        """Settles, finds and deletes ticks; returns the counts."""
        # Settled first, because a schedule holds back ticks behind a fan-out that seems to run.
        settled = await workflow.execute_activity(activities.settle_ticks, **_EFFECT)
        missed = await workflow.execute_activity(activities.find_missed_ticks, **_EFFECT)
        pruned = await workflow.execute_activity_method(activities.OldTicks.prune_ticks, **_EFFECT)
        if workflow.patched(_PATCH_FAIRNESS):
            await _check_fairness()
        workflow.set_current_details(
            f"{number(missed.found, 'tick')} missed, {settled.ticks:,} settled, {pruned:,} deleted."
        )
        return Reconciled(missed=missed, settled=settled, ticks_pruned=pruned)


async def _check_fairness() -> None:
    """Checks fairness; reconciling has succeeded in any case."""
    try:
        await workflow.execute_activity(check_fairness, **_CHECK)
    except ActivityError as error:  # such as that of a worker that does not know the activity
        if is_cancelled_exception(error):
            raise

"""The platform job that finds, resolves and deletes dead letters, and sends alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy

from temporal_tenancy.core.jobs import JobPriority, platform_job
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters import _activities as activities
from temporal_tenancy.dead_letters._payloads import Swept
from temporal_tenancy.dead_letters.sweep import NAME

_EFFECT: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(minutes=5),
    "heartbeat_timeout": timedelta(minutes=1),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(minutes=1), maximum_attempts=5),
}


@platform_job(
    NAME,
    reason="finds and settles dead letters and sends alerts, over all tenants",
    queue="default",
    priority=JobPriority.HIGH,
    execution_timeout=timedelta(hours=1),
)
class SweepDeadLetters:
    """Finds permanent failures, resolves those that have succeeded since, and sends alerts."""

    @workflow.run
    async def run(self) -> Swept:
        """Finds, resolves and deletes letters, then sends alerts; returns the counts."""
        found = await workflow.execute_activity(activities.find_dead_letters, **_EFFECT)
        resolved = await workflow.execute_activity(activities.resolve_dead_letters, **_EFFECT)
        forgotten = await workflow.execute_activity(activities.forget_dead_letters, **_EFFECT)
        alerts = await workflow.execute_activity_method(
            activities.Alarm.tell_of_dead_letters, **_EFFECT
        )
        workflow.set_current_details(
            f"{number(found, 'dead letter')} found, {resolved:,} resolved, {forgotten:,} deleted; "
            f"{number(alerts, 'alert')} sent."
        )
        return Swept(found=found, resolved=resolved, forgotten=forgotten, alerts=alerts)

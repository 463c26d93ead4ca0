"""The platform job that releases activities when a suspension ends."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.directory import current_directory
from temporal_tenancy.core.jobs import JobPriority, platform_job
from temporal_tenancy.sdk import suspension
from temporal_tenancy.sdk.heartbeats import heartbeating


@platform_activity("releases paused activities of tenants that are no longer suspended")
@heartbeating()
async def release_activities() -> int:
    """Releases the activities that waited for a suspension that has ended; returns the count."""
    return await suspension.release_all(activity.client(), current_directory())


@platform_job(
    "suspensions.release",
    reason="looks for paused activities over all tenants",
    queue="default",
    priority=JobPriority.HIGH,
    execution_timeout=timedelta(minutes=30),
)
class ReleaseActivities:
    """Releases paused activities of tenants that are no longer suspended, however it ended."""

    @workflow.run
    async def run(self) -> int:
        """Returns how many activities were released."""
        return await workflow.execute_activity(
            release_activities,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=1), maximum_attempts=5),
        )

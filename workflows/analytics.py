"""The job that aggregates a month's usage."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.analytics import AggregateUsage, UsageSummary, aggregate_usage
from activities.months import Month
from saas.queues import Queue
from temporal_tenancy import JobPriority, Period, TenantInput, tenant_job
from temporal_tenancy.core import number
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class AggregateAnalyticsInput(TenantInput):
    """The month to aggregate."""

    period: Month


@tenant_job(
    "analytics.aggregate",
    queue=Queue.BULK,
    priority=JobPriority.LOW,
    feature="analytics",
    period=Period.MONTH,
    execution_timeout=timedelta(hours=6),
)
class AggregateAnalytics:
    """Counts a month's usage by day."""

    @workflow.run
    async def run(self, job: AggregateAnalyticsInput) -> UsageSummary:
        """Returns the numbers of days and events."""
        summary = await workflow.execute_activity(
            aggregate_usage,
            AggregateUsage(period=job.period),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        workflow.set_current_details(
            f"Counted {number(summary.events, 'usage event')} of {job.tenant_id} on "
            f"{number(summary.days, 'day')} of {job.period}."
        )
        return summary

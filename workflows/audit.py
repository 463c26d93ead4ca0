"""The job that counts a day's audit entries."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.audit import AggregateAudit, AuditSummary, aggregate_audit
from activities.days import Day
from saas.queues import Queue
from temporal_tenancy import JobPriority, Period, TenantInput, tenant_job
from temporal_tenancy.core import number
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class AggregateAuditInput(TenantInput):
    """The day to count, in UTC."""

    period: Day


@tenant_job(
    "audit.aggregate",
    queue=Queue.BULK,
    priority=JobPriority.LOW,
    period=Period.DAY,
    execution_timeout=timedelta(hours=6),
)
class AggregateAuditLog:
    """Counts a day's audit entries by action and actor."""

    @workflow.run
    async def run(self, job: AggregateAuditInput) -> AuditSummary:
        """Returns the number of entries."""
        summary = await workflow.execute_activity(
            aggregate_audit,
            AggregateAudit(period=job.period),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        workflow.set_current_details(
            f"Counted {number(summary.entries, 'audit entry')} of {job.tenant_id} on {job.period}."
        )
        return summary

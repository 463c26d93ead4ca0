"""The job that enforces retention."""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime, BaseModel, Field
from temporalio import workflow

from activities.retention import DeleteUsage, FindCutoff, Retention, find_cutoff
from saas.queues import Queue
from temporal_tenancy import JobPriority, TenantInput, tenant_job
from temporal_tenancy.core import number
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class EnforceRetentionInput(TenantInput):
    """How long to keep usage."""

    keep_days: int | None = Field(default=None, ge=1, le=36_500)  # None: the plan's


class RetentionReport(BaseModel):
    """What retention deleted."""

    before: AwareDatetime | None  # None: everything is kept
    deleted: int  # events deleted by this run


@tenant_job(
    "retention.enforce",
    queue=Queue.BULK,
    priority=JobPriority.LOW,
    execution_timeout=timedelta(hours=6),
)
class EnforceRetention:
    """Deletes the tenant's usage events past its retention."""

    @workflow.run
    async def run(self, job: EnforceRetentionInput) -> RetentionReport:
        """Returns the number of deleted events; none if the plan keeps usage without limit."""
        # Determined once, so that every attempt deletes up to the same moment.
        cutoff = await workflow.execute_activity(
            find_cutoff,
            FindCutoff(at=workflow.now(), keep_days=job.keep_days),
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        if cutoff.before is None:
            workflow.set_current_details(f"{job.tenant_id} keeps its usage events without limit.")
            return RetentionReport(before=None, deleted=0)
        # One activity for all batches keeps the history short even for millions of events.
        deleted = await workflow.execute_activity_method(
            Retention.delete_usage,
            DeleteUsage(before=cutoff.before),
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        workflow.set_current_details(
            f"Deleted {number(deleted, 'usage event')} of {job.tenant_id} from before "
            f"{cutoff.before}."
        )
        return RetentionReport(before=cutoff.before, deleted=deleted)

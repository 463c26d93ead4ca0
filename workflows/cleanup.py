"""The job that deletes expired rows."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.cleanup import Cleanup, CleanupReport, DeleteExpired
from saas.queues import Queue
from temporal_tenancy import JobPriority, TenantInput, tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class CleanUpExpiredInput(TenantInput):
    """The tenant to clean up."""


@tenant_job(
    "cleanup.expired",
    queue=Queue.BULK,
    priority=JobPriority.IDLE,
    execution_timeout=timedelta(hours=6),
)
class CleanUpExpired:
    """Deletes the tenant's expired documents, exports, imports, mail and event records."""

    @workflow.run
    async def run(self, job: CleanUpExpiredInput) -> CleanupReport:
        """Returns the number of deleted rows by table."""
        report = await workflow.execute_activity_method(
            Cleanup.delete_expired,
            DeleteExpired(at=workflow.now()),
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        counts = ", ".join(f"{count:,} {table}" for table, count in report.deleted.items())
        workflow.set_current_details(f"Deleted expired rows of {job.tenant_id}: {counts}.")
        return report

"""The job that writes an export."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from temporalio import workflow

from activities.exports import Exports, WriteExport, WrittenExport
from saas.queues import Queue
from saas.requests.exports import JOB
from temporal_tenancy import TenantInput, tenant_job
from temporal_tenancy.core import number
from workflows.failed_requests import failure_noted
from workflows.retries import HEARTBEAT_TIMEOUT, OUTSIDE_RETRIES


class GenerateExportInput(TenantInput):
    """The export to write."""

    export_id: UUID


@tenant_job(
    JOB,
    queue=Queue.BULK,
    feature="exports",
    execution_timeout=timedelta(hours=6),
)
class GenerateExport:
    """Writes a requested file with the tenant's data."""

    @workflow.run
    async def run(self, job: GenerateExportInput) -> WrittenExport:
        """Returns the number of rows and bytes written."""
        async with failure_noted("export", job.export_id):
            written = await workflow.execute_activity_method(
                Exports.write_export,
                WriteExport(export_id=job.export_id),
                start_to_close_timeout=timedelta(hours=1),  # millions of rows
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=OUTSIDE_RETRIES,
            )
        workflow.set_current_details(
            f"Wrote {number(written.rows, 'row')}, {number(written.bytes, 'byte')}."
        )
        return written

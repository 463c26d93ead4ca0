"""Integrations."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel
from temporalio import workflow

from activities.integrations import JOB, SyncPage, sync_page
from saas.queues import Queue
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job
from workflows.failed_requests import failure_noted
from workflows.retries import HEARTBEAT_TIMEOUT, OUTSIDE_RETRIES


class SyncIntegrationInput(TenantInput):
    """Whose records are taken over."""

    integration_id: UUID
    # Of the runs before, where one went on in another.
    pages: int = 0
    records: int = 0


class SyncReport(BaseModel):
    """What a sync has taken over."""

    pages: int
    records: int


@tenant_job(JOB, queue=Queue.BULK, execution_timeout=timedelta(hours=12))
class SyncIntegration:
    """Takes over a partner's records, from where the last run has come to."""

    @workflow.run
    async def run(self, job: SyncIntegrationInput) -> SyncReport:
        """Returns how many pages and records there were."""
        pages, records = job.pages, job.records
        more = True
        while more:
            async with failure_noted("integration", job.integration_id):
                page = await workflow.execute_activity(
                    sync_page,
                    SyncPage(integration_id=job.integration_id),
                    start_to_close_timeout=timedelta(minutes=5),
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                    retry_policy=OUTSIDE_RETRIES,  # for each page
                )
            pages, records, more = pages + 1, records + page.records, page.more
            workflow.set_current_details(f"{records:,} records on {pages:,} pages so far.")
            if more and workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    job.model_copy(update={"pages": pages, "records": records})
                )
        workflow.set_current_details(f"Took over {records:,} records on {pages:,} pages.")
        return SyncReport(pages=pages, records=records)

"""The job that copies a partner's records."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel
from temporalio import workflow

from activities.integrations import SyncPage, sync_page
from saas.queues import Queue
from saas.requests.integrations import JOB
from temporal_tenancy import TenantInput, tenant_job
from temporal_tenancy.core import Internal, number
from workflows.failed_requests import failure_noted
from workflows.retries import HEARTBEAT_TIMEOUT, OUTSIDE_RETRIES


class SyncIntegrationInput(TenantInput):
    """The integration to sync."""

    integration_id: UUID
    # Totals of earlier runs that continued as new.
    pages: Annotated[int, Internal] = 0
    records: Annotated[int, Internal] = 0


class SyncReport(BaseModel):
    """What a sync has copied."""

    pages: int
    records: int


@tenant_job(JOB, queue=Queue.BULK, execution_timeout=timedelta(hours=12))
class SyncIntegration:
    """Copies a partner's records, from where the last run stopped."""

    @workflow.run
    async def run(self, job: SyncIntegrationInput) -> SyncReport:
        """Returns the numbers of pages and records."""
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
            workflow.set_current_details(
                f"{number(records, 'record')} on {number(pages, 'page')} so far."
            )
            if more and workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    job.model_copy(update={"pages": pages, "records": records})
                )
        workflow.set_current_details(
            f"Copied {number(records, 'record')} on {number(pages, 'page')}."
        )
        return SyncReport(pages=pages, records=records)

"""The job that updates the search index."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.search import JOB, IndexDocument, index_document
from saas.queues import Queue
from temporal_tenancy import Coalesce, JobPriority, tenant_job
from workflows.retries import DATABASE_RETRIES


@tenant_job(JOB, queue=Queue.BULK, priority=JobPriority.LOW, coalesce=Coalesce(100, index_document))
class IndexForSearch:
    """Updates the search entry of a contact or document."""

    @workflow.run
    async def run(self, job: IndexDocument) -> None:
        """Ends once the entry matches the item, or is deleted with it."""
        await workflow.execute_activity(
            index_document,
            job,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=DATABASE_RETRIES,
        )

"""Search."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.search import JOB, IndexDocument, index_document
from saas.queues import Queue
from temporal_tenancy.core.jobs import Coalesce, JobPriority, tenant_job
from workflows.retries import DATABASE_RETRIES


@tenant_job(JOB, queue=Queue.BULK, priority=JobPriority.LOW, coalesce=Coalesce(100, index_document))
class IndexForSearch:
    """Brings what can be found of a contact or a document up to date."""

    @workflow.run
    async def run(self, job: IndexDocument) -> None:
        """Ends once the entry says what the thing says, or is gone with it."""
        await workflow.execute_activity(
            index_document,
            job,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=DATABASE_RETRIES,
        )

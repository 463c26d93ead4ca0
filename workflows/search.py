"""The jobs that update the search index."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel
from temporalio import workflow

from activities.search import (
    JOB,
    IndexDocument,
    IndexPage,
    Kind,
    index_document,
    index_documents,
    index_page,
)
from saas.queues import Queue
from temporal_tenancy import Coalesce, JobPriority, TenantInput, tenant_job
from temporal_tenancy.core import Internal, number
from workflows.retries import DATABASE_RETRIES


@tenant_job(
    JOB,
    queue=Queue.BULK,
    priority=JobPriority.LOW,
    coalesce=Coalesce(100, index_documents, together=True),
)
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


class ReindexInput(TenantInput):
    """The tenant whose items to index."""

    # How far earlier runs that continued as new have come.
    kind: Annotated[Kind, Internal] = "contact"
    after: Annotated[str | None, Internal] = None
    contacts: Annotated[int, Internal] = 0
    documents: Annotated[int, Internal] = 0


class ReindexReport(BaseModel):
    """What was indexed."""

    contacts: int
    documents: int


@tenant_job(
    "search.reindex",
    queue=Queue.BULK,
    priority=JobPriority.IDLE,
    execution_timeout=timedelta(hours=12),
)
class ReindexForSearch:
    """Updates the search entries of all contacts and documents, such as those from before search.

    An attempt that fails goes on after the last page that was written.
    """

    @workflow.run
    async def run(self, job: ReindexInput) -> ReindexReport:
        """Returns the numbers of contacts and documents."""
        while True:
            page = await workflow.execute_activity(
                index_page,
                IndexPage(kind=job.kind, after=job.after),
                start_to_close_timeout=timedelta(minutes=5),
                retry_policy=DATABASE_RETRIES,  # for each page
            )
            counted = f"{job.kind}s"
            done = {counted: getattr(job, counted) + page.items, "after": page.after}
            last = page.after is None and job.kind == "document"
            if page.after is None and not last:
                done["kind"] = "document"
            job = job.model_copy(update=done)
            so_far = f"{number(job.contacts, 'contact')} and {number(job.documents, 'document')}"
            if last:
                workflow.set_current_details(f"Indexed {so_far}.")
                return ReindexReport(contacts=job.contacts, documents=job.documents)
            workflow.set_current_details(f"{so_far} so far.")
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(job)

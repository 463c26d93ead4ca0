"""The job that imports a file of contacts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.imports import (
    BatchRows,
    FinishImport,
    ImportProgress,
    Imports,
    ImportSlice,
    ImportStatus,
    finish_import,
)
from saas.queues import Queue
from temporal_tenancy import TenantInput, tenant_job
from temporal_tenancy.core import failure_of, number
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT

# Long enough to write a gigabyte of rejected rows to slow storage: the error file is written in one
# attempt or not at all.
FINISH_TIMEOUT: Final = timedelta(hours=1)


class ImportContactsInput(TenantInput):
    """The file to import."""

    import_id: UUID
    batch_size: int = BatchRows  # rows per transaction


@tenant_job("contacts.import", queue=Queue.DEFAULT, feature="imports", waits_out_suspension=True)
class ImportContacts:
    """Imports a file of contacts, identified by e-mail address.

    One activity per slice imports a few seconds' worth of rows. Between slices the tenant's state
    is checked, other tenants get their turn, and queries see the new progress.
    """

    def __init__(self) -> None:
        self._progress = ImportProgress()

    @workflow.query
    def progress(self) -> ImportProgress:
        """Returns the progress after the last slice; the table `imports` has it for each batch."""
        return self._progress

    @workflow.run
    async def run(self, job: ImportContactsInput) -> ImportProgress:
        """Returns the final progress; for an unreadable file its status is `failed`."""
        try:
            while not self._progress.at_end:
                self._note(job, await self._next_slice(job))
            if self._progress.status is ImportStatus.PROCESSING:
                refused = self._progress.error is not None
                await self._finish(job, ImportStatus.FAILED if refused else ImportStatus.COMPLETED)
        except (ActivityError, asyncio.CancelledError) as error:
            if is_cancelled_exception(error):
                await self._finish(job, ImportStatus.CANCELLED)
            else:
                # The run fails with this error even if the import cannot be marked as failed.
                with suppress(ActivityError):
                    await self._finish(job, ImportStatus.FAILED, cause=error)
            raise
        return self._progress

    async def _next_slice(self, job: ImportContactsInput) -> ImportProgress:
        return await workflow.execute_activity_method(
            Imports.import_slice,
            ImportSlice(import_id=job.import_id, batch_size=job.batch_size),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )

    async def _finish(
        self, job: ImportContactsInput, status: ImportStatus, *, cause: BaseException | None = None
    ) -> None:
        error, error_type = self._progress.error, self._progress.error_type
        if cause is not None:
            error_type, error = failure_of(cause)
        ended = await workflow.execute_activity(
            finish_import,
            FinishImport(
                import_id=job.import_id,
                status=status,
                error=error,
                error_type=error_type,
                may_resume=cause is not None,
            ),
            start_to_close_timeout=FINISH_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        self._note(job, ended)

    def _note(self, job: ImportContactsInput, progress: ImportProgress) -> None:
        self._progress = progress
        part = 100 * progress.read // progress.size if progress.size else 100
        workflow.set_current_details(
            f"Import {job.import_id} of {job.tenant_id} is {progress.status}: "
            f"{number(progress.rows, 'row')} read ({part} % of the file), "
            f"{number(progress.imported, 'contact')} imported, {progress.updated:,} updated, "
            f"{progress.rejected:,} rejected."
        )

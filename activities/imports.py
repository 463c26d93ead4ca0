"""Imports a tenant's contacts from a file: in slices, with a transaction per batch of rows."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from activities import contact_batches
from activities.contact_rows import CheckedRows, Columns, judge
from activities.imported_rows import count_rows
from activities.limits import LARGE
from activities.rejected_rows import keep_rejected, write_error_file
from activities.search import ask_for_changed_contacts
from activities.uploads import UNSURE
from saas.database import audit
from saas.database.contacts import Import, RejectedRow, SeenEmail
from saas.database.contacts import ImportStatus as ImportStatus  # the workflow's too
from saas.refusals import Refused
from saas.services.csv_files import (
    EncodingUnsure,
    FileRefused,
    RecordParser,
    batches,
    read_ahead,
    read_header,
)
from saas.services.delimiters import Dialect
from saas.services.object_storage import current_storage
from temporal_tenancy import current_tenant, heartbeating, tenant_activity, tenant_session
from temporal_tenancy.core import number
from temporal_tenancy.outbox import enqueue

BATCH_ROWS: Final = 5_000
BATCH_ROWS_MIN: Final = 100
BATCH_ROWS_MAX: Final = 20_000
BATCH_BYTES: Final = 4 * 1024 * 1024  # a batch ends with the row that exceeds it
NOTIFICATIONS: Final = "notifications.send"
SLICE_SECONDS: Final = 10.0  # of work, before the workflow gets the progress

BatchRows = Field(default=BATCH_ROWS, ge=BATCH_ROWS_MIN, le=BATCH_ROWS_MAX)


class ImportNotFound(Refused):
    """The tenant does not have the import."""


class ImportUnreadable(Refused):
    """The row of the import cannot be read."""


class ImportSlice(BaseModel):
    """Input of `import_slice`: the import to continue."""

    import_id: UUID
    batch_size: int = BatchRows  # rows per transaction


class FinishImport(BaseModel):
    """Input of `finish_import`: the import to end, and how."""

    import_id: UUID
    status: ImportStatus
    error: str | None = None  # why it failed, as a sentence
    error_type: str | None = None
    may_resume: bool = False  # whether its job may be started again, to continue where it was


class ImportProgress(BaseModel):
    """The progress of an import; the three counts add up to `rows`, the rows read."""

    status: ImportStatus = ImportStatus.PROCESSING
    rows: int = 0
    imported: int = 0
    updated: int = 0
    rejected: int = 0
    read: int = 0  # bytes of the file
    size: int = 0  # bytes
    at_end: bool = False  # nothing is left to read, or the rest cannot be read
    error: str | None = None
    error_type: str | None = None
    error_file: str | None = None


class _Overtaken(Exception):
    """Another attempt has continued this import."""


class Imports:
    """Imports files slice by slice."""

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        """`slice_seconds` is how long a slice takes; it ends with the batch after that."""
        self._slice_seconds = slice_seconds

    @tenant_activity
    async def import_slice(self, request: ImportSlice) -> ImportProgress:
        """Imports the next rows of a file for some seconds, and returns the progress.

        Each batch records the progress in its own transaction: an interrupted attempt leaves
        complete batches behind, and the next one continues with the first missing batch.
        """
        async with heartbeating() as heart:
            imported = await _open(request.import_id)
            until = time.monotonic() + self._slice_seconds
            try:
                async with aclosing(_read(imported, request.batch_size)) as steps:
                    async for step in steps:
                        before, imported = imported, await _write(imported, step)
                        count_rows(before, imported)
                        if imported.status != ImportStatus.PROCESSING:
                            break
                        heart.beat(imported.position)
                        if time.monotonic() >= until:
                            return progress_of(imported)
            except FileRefused as refused:
                return progress_of(imported, at_end=True, refused=refused)
            return progress_of(imported, at_end=True)


@tenant_activity
async def finish_import(request: FinishImport) -> ImportProgress:
    """Ends an import: writes its error file, notifies the tenant, and returns the result.

    An import that has already ended stays as it is.
    """
    async with heartbeating():
        while True:
            async with tenant_session() as session:
                found = await find_import(session, request.import_id)
            error_file = None
            if found.status == ImportStatus.PROCESSING and not request.may_resume:
                error_file = await write_error_file(found)
            async with tenant_session(limits=LARGE) as session:
                imported = await find_import(session, request.import_id, lock=True)
                if imported.status != ImportStatus.PROCESSING:
                    return progress_of(imported, at_end=True)
                # An attempt that timed out may have written one more batch since.
                if imported.rejected == found.rejected:
                    imported.status = request.status
                    imported.error, imported.error_type = request.error, request.error_type
                    imported.error_file = error_file
                    imported.ended_at = datetime.now(UTC)
                    if not request.may_resume:
                        await _settle(session, imported)
                    return progress_of(imported, at_end=True)


async def cancel_waiting(import_id: UUID) -> None:
    """Ends an import whose job has not started yet; the job will then have nothing to do."""
    async with tenant_session() as session:
        found = await find_import(session, import_id, lock=True)
        if found.status == ImportStatus.PROCESSING:
            found.status = ImportStatus.CANCELLED
            found.ended_at = datetime.now(UTC)


async def find_import(session: AsyncSession, import_id: UUID, *, lock: bool = False) -> Import:
    """Returns the tenant's import; raises `ImportNotFound`, also for another tenant's.

    Raises `ImportUnreadable` for JSON of the tenant's role that PostgreSQL stores and Python cannot
    read. `lock` keeps others from continuing the import until the transaction ends.
    """
    query = select(Import).where(Import.id == import_id)
    try:
        found = await session.scalar(query.with_for_update() if lock else query)
    except (ValueError, RecursionError):  # of Python's reader of JSON
        raise ImportUnreadable(
            f"the row of import {import_id} has JSON that cannot be read. Set its columns reading "
            "and columns to null."
        ) from None
    if found is None:
        raise ImportNotFound(f"{current_tenant()} has no import {import_id}.")
    return found


def progress_of(
    imported: Import, *, at_end: bool = False, refused: FileRefused | None = None
) -> ImportProgress:
    """Returns the progress of an import."""
    return ImportProgress(
        status=ImportStatus(imported.status),
        rows=imported.rows,
        imported=imported.imported,
        updated=imported.updated,
        rejected=imported.rejected,
        read=imported.position,
        size=imported.size,
        at_end=at_end,
        error=str(refused) if refused else imported.error,
        error_type=type(refused).__name__ if refused else imported.error_type,
        error_file=imported.error_file,
    )


class _Step(NamedTuple):
    """The changes of one transaction."""

    batch: contact_batches.Batch
    offset: int  # where the next step begins, in bytes
    line: int  # the number of lines before it
    header: tuple[Dialect, Sequence[str]] | None = None  # with the columns, right after reading it


async def _open(import_id: UUID) -> Import:
    """Returns the import to continue, and reopens one whose job failed and was started again."""
    async with tenant_session(limits=LARGE) as session:
        imported = await find_import(session, import_id, lock=True)
        if imported.status == ImportStatus.FAILED:
            imported.status = ImportStatus.PROCESSING
            imported.error = imported.error_type = imported.ended_at = None
        return imported


def _read(imported: Import, batch_size: int) -> AsyncGenerator[_Step]:
    """Yields the rest of the file in steps, reading one step ahead of the one being written."""
    return read_ahead(_steps(imported, batch_size))


async def _steps(imported: Import, batch_size: int) -> AsyncGenerator[_Step]:
    if imported.status != ImportStatus.PROCESSING:
        return
    if imported.encoding == UNSURE:
        raise EncodingUnsure(_question(imported))
    parser = RecordParser(
        imported.encoding,
        dialect=Dialect.of(imported.delimiter) if imported.delimiter else None,
        offset=imported.position,
        line=imported.line,
    )
    pieces = current_storage().open(imported.path, start=imported.position)
    if imported.columns is None:
        header = await read_header(parser, pieces, judge)
        columns = Columns(header)
        nothing = contact_batches.prepare(CheckedRows())
        yield _Step(nothing, parser.offset, parser.line, (parser.dialect, header))
    else:
        columns = Columns(imported.columns)
    async for batch in batches(parser, pieces, rows=batch_size, size=BATCH_BYTES):
        checked = columns.check(batch.records)
        ready = contact_batches.prepare(checked, dry_run=imported.dry_run)
        yield _Step(ready, batch.offset, batch.line)


def _question(imported: Import) -> str:
    """Returns the question which encoding is right, with a sample line in each of them."""
    candidates = imported.candidates
    readings = "; ".join(f"as {each['encoding']}: {_quoted(each['sample'])}" for each in candidates)
    return (
        f"the file is not UTF-8, and several encodings make sense of it ({readings}). Import it "
        f'again and name the right one: with "--encoding {candidates[0]["encoding"]}" on the '
        'command line, the field "encoding" of the form, or "charset" in the content type.'
    )


def _quoted(sample: Sequence[str]) -> str:
    return f'"{sample[0]}"' if sample else "nothing"


async def _write(read: Import, step: _Step) -> Import:
    """Writes a step that continues from `read`, and returns the import as it is afterwards.

    It writes nothing if the import has ended meanwhile. Raises `_Overtaken` if another attempt has
    continued it.
    """
    async with tenant_session(limits=LARGE) as session:
        imported = await find_import(session, read.id, lock=True)
        if imported.status != ImportStatus.PROCESSING:
            return imported
        if imported.position != read.position:
            raise _Overtaken(f"another attempt has continued import {read.id}.")
        checked = step.batch.checked
        await keep_rejected(session, imported, checked.rejected)
        if imported.dry_run:
            new = await contact_batches.count_new(session, imported.id, checked.contacts)
        else:
            written = await contact_batches.upsert(session, step.batch)
            new = 0 if written is None else written.new
            if written is not None and written.changed:
                await ask_for_changed_contacts(written.at, version=str(imported.id))
        imported.imported += new
        imported.updated += checked.accepted - new
        imported.rejected += len(checked.rejected)
        imported.position, imported.line = step.offset, step.line
        if step.header is not None:
            imported.delimiter, imported.columns = str(step.header[0]), list(step.header[1])
        return imported


async def _settle(session: AsyncSession, imported: Import) -> None:
    """Records and announces the end of an import, and deletes its job's working data."""
    for model in (RejectedRow, SeenEmail):
        await session.execute(delete(model).where(model.import_id == imported.id))
    await audit.record(
        session,
        f"import.{imported.status}",
        str(imported.id),
        dry_run=imported.dry_run,
        imported=imported.imported,
        updated=imported.updated,
        rejected=imported.rejected,
    )
    await enqueue(NOTIFICATIONS, _notice(imported), key=f"import-{imported.id}")


def _notice(imported: Import) -> dict[str, str]:
    counts = (
        f"Read {number(imported.rows, 'row')}: {number(imported.imported, 'contact')} imported, "
        f"{imported.updated:,} updated, {imported.rejected:,} rejected."
    )
    parts = [
        f"The {'dry run' if imported.dry_run else 'import'} of {imported.file_name} "
        f"{_SAYS[ImportStatus(imported.status)]}.",
        imported.error,
        counts,
        "A dry run writes no contacts." if imported.dry_run else None,
        f"The file was read as {imported.encoding}." if imported.columns else None,
        "The error file has the rejected rows with their reasons." if imported.error_file else None,
    ]
    return {
        "subject": f"{imported.file_name}: import {imported.status}",
        "body": "\n".join(part for part in parts if part),
        "reference": f"imports/{imported.id}",
    }


_SAYS: Final = {
    ImportStatus.COMPLETED: "is done",
    ImportStatus.FAILED: "has failed",
    ImportStatus.CANCELLED: "was cancelled",
}

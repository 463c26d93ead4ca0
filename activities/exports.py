"""Exports: writes a tenant's data to a file, which is kept for a week."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import update

from activities.datasets import DATASETS, Dataset
from saas.database import audit
from saas.database.exports import Export, ExportDataset, ExportFormat, RequestStatus
from saas.requests.exports import KEPT, export_not_found, find_export
from saas.services.object_storage import current_storage, object_path
from saas.services.tables import Pages, Row, as_csv
from temporal_tenancy import Heart, heartbeating, tenant_activity, tenant_session
from temporal_tenancy.core import number
from temporal_tenancy.outbox import enqueue

AREA: Final = "exports"  # in the object storage
PAGE_ROWS: Final = 10_000  # rows in memory at once


class WriteExport(BaseModel):
    """Input of `write_export`: the export to write."""

    export_id: UUID


class WrittenExport(BaseModel):
    """The result of writing an export."""

    export_id: UUID
    rows: int
    bytes: int


class Exports:
    """Writes exports' files."""

    def __init__(
        self,
        *,
        page_rows: int = PAGE_ROWS,
        datasets: Mapping[ExportDataset, Dataset] = DATASETS,
    ) -> None:
        """
        Args:
            page_rows: how many rows to read, and keep in memory, at once.
            datasets: the datasets that can be exported.
        """
        self._page_rows = page_rows
        self._datasets = datasets

    @tenant_activity
    async def write_export(self, request: WriteExport) -> WrittenExport:
        """Writes an export's file and notifies the tenant, both once.

        An interrupted attempt leaves no partial file; the next one starts again. Raises
        `ExportNotFound` if the tenant does not have the export.
        """
        async with heartbeating() as heart:
            async with tenant_session() as session:
                export = await find_export(session, request.export_id, also_expired=True)
                if export.status != RequestStatus.COMPLETED:
                    # Stored before the file is written, so that cleaning up always finds the file.
                    export.path = object_path(AREA, f"{export.id}.{export.format}")
            if export.status == RequestStatus.COMPLETED or export.path is None:
                return WrittenExport(
                    export_id=export.id, rows=export.rows or 0, bytes=export.bytes or 0
                )
            dataset = self._datasets[ExportDataset(export.dataset)]
            counted = _Counted(dataset.pages(self._page_rows), heart)
            if export.format == ExportFormat.CSV:
                file = as_csv(dataset.schema, counted.pages(), mark=dataset.mark)
            else:
                # Imported here: the job's declaration does without PyArrow.
                from saas.services.parquet_files import as_parquet

                file = as_parquet(dataset.schema, counted.pages())
            written = await current_storage().put(export.path, file)
            report = WrittenExport(export_id=export.id, rows=counted.rows, bytes=written)
            await _complete(export, report)
            return report


class _Counted:
    """Counts the rows of pages that pass through, and reports them by heartbeat."""

    def __init__(self, pages: Pages, heart: Heart) -> None:
        self.rows = 0
        self._pages = pages
        self._heart = heart

    async def pages(self) -> AsyncIterator[Sequence[Row]]:
        async for page in self._pages:
            yield page
            self.rows += len(page)
            self._heart.beat(self.rows)


async def _complete(export: Export, report: WrittenExport) -> None:
    now = datetime.now(UTC)
    async with tenant_session() as session:
        completed = await session.scalar(
            update(Export)
            .where(Export.id == export.id)
            .values(
                status=RequestStatus.COMPLETED,
                rows=report.rows,
                bytes=report.bytes,
                completed_at=now,
                expires_at=now + KEPT,
            )
            .returning(Export.id)
        )
        if completed is not None:
            await audit.record(
                session,
                "export.completed",
                str(export.id),
                once=str(export.id),
                dataset=export.dataset,
                rows=report.rows,
            )
            # Without a link, which would work for anyone who reads it; the HTTP door makes one.
            await enqueue(
                "notifications.send",
                {
                    "subject": "Your export is ready",
                    "body": f"{number(report.rows, 'row')} of {export.dataset} as {export.format}. "
                    f"It is kept until {now + KEPT:%Y-%m-%d %H:%M} UTC.",
                    "reference": f"exports/{export.id}",
                },
                key=f"export-{export.id}",
            )
    if completed is None and export.path is not None:
        await current_storage().delete(export.path)  # the export has expired meanwhile
        raise export_not_found(export.id)

"""Exports as a tenant asks for them: requested, listed, shown and downloaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.exports import Export, ExportDataset, ExportFormat, RequestStatus
from saas.database.paging import Listing
from saas.refusals import Refused
from saas.services.links import make_link
from temporal_tenancy import current_tenant
from temporal_tenancy.outbox import enqueue

JOB: Final = "exports.generate"
KEPT: Final = timedelta(days=7)
LINK_OPENS: Final = timedelta(hours=1)

EXPORTS: Final = Listing("exports", Export, [Export.id], where=[Export.expires_at > func.now()])


class ExportNotFound(Refused):
    """The tenant does not have the export."""


class ExportNotReady(Refused):
    """The export's file has not been written yet."""


async def begin_export(session: AsyncSession, dataset: ExportDataset, format: ExportFormat) -> UUID:
    """Requests an export in the transaction of `session`, the open `tenant_session()`.

    Returns the export's id, which is the key of its job.
    """
    export = Export(dataset=dataset, format=format, expires_at=datetime.now(UTC) + KEPT)
    session.add(export)
    await session.flush()
    await enqueue(JOB, {"export_id": export.id}, key=str(export.id))
    return export.id


async def find_export(
    session: AsyncSession, export_id: UUID, *, also_expired: bool = False
) -> Export:
    """Returns the tenant's export; raises `ExportNotFound`, also for another tenant's.

    An expired export, which is about to be deleted, counts as not found unless `also_expired`.
    """
    export = await session.scalar(select(Export).where(Export.id == export_id))
    if export is None or not (also_expired or export.expires_at > datetime.now(UTC)):
        raise export_not_found(export_id)
    return export


def path_of(export: Export) -> str:
    """Returns the path of an export's file in the object storage; raises `ExportNotReady`."""
    if export.status == RequestStatus.FAILED:
        raise ExportNotReady(f"export {export.id} has failed. Request a new one.")
    if export.status != RequestStatus.COMPLETED or export.path is None:
        raise ExportNotReady(f"export {export.id} is {export.status}. Ask again later.")
    return export.path


def file_name_of(export: Export) -> str:
    """Returns the name under which to save an export's file."""
    return f"{export.dataset}-{export.requested_at.date().isoformat()}.{export.format}"


async def export_link(session: AsyncSession, export_id: UUID) -> str:
    """Returns a URL that opens an export's file for an hour, or until the export expires.

    Raises `ExportNotReady`, and `ExportNotFound`, also for an expired export.
    """
    return link_of(await find_export(session, export_id))


def link_of(export: Export) -> str:
    """Returns the URL of `export_link` for an export; raises `ExportNotReady`."""
    return make_link(path_of(export), min(export.expires_at - datetime.now(UTC), LINK_OPENS))


def export_not_found(export_id: UUID) -> ExportNotFound:
    """Returns the error for an export that the current tenant does not have."""
    return ExportNotFound(f"{current_tenant()} has no export {export_id}. Request a new one.")

"""Exports of a tenant's data: requests a file, shows its state, and sends it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from processes.web.bodies import as_sent, read_json
from processes.web.callers import Authenticated
from processes.web.errors import documented
from processes.web.files import attachment
from processes.web.idempotency import Key, answered_once
from processes.web.paging import LIMIT, After, ItemPage, Limit, identified, page_of
from processes.web.reference import json_body
from processes.web.refusals import ExportUnknown
from saas.database.exports import Export, ExportDataset, ExportFormat, RequestStatus
from saas.requests.exports import (
    EXPORTS,
    JOB,
    ExportNotFound,
    begin_export,
    file_name_of,
    find_export,
    link_of,
    path_of,
)
from saas.services.object_storage import current_storage
from temporal_tenancy import ConfigurationError, registry, tenant_session
from temporal_tenancy.core import require_runnable

FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("text/csv", "application/vnd.apache.parquet")
        },
    }
}

log: Final = structlog.get_logger(__name__)
router: Final = APIRouter(prefix="/exports", tags=["exports"])


class ExportRequest(BaseModel):
    """The data to export, and the format of the file."""

    model_config = ConfigDict(frozen=True)

    dataset: ExportDataset = Field(examples=["contacts"])
    format: ExportFormat = Field(ExportFormat.CSV, examples=["csv"])


class ExportLinks(BaseModel):
    """Links to an export."""

    self: str
    file: str
    job: str


class ExportState(BaseModel):
    """The state of an export."""

    id: UUID
    dataset: ExportDataset
    format: ExportFormat
    status: RequestStatus
    rows: int | None  # null until it is completed
    bytes: int | None
    requested_at: datetime
    completed_at: datetime | None
    expires_at: datetime  # then the file is deleted, and the export unknown
    download_url: str | None  # opens the file for an hour, for anyone who has it; null until then
    links: ExportLinks


@router.post(
    "",
    status_code=202,
    response_model=ExportState,
    openapi_extra=json_body(
        ExportRequest,
        {
            "contacts for a spreadsheet": {"dataset": "contacts"},
            "usage events for analysis": {"dataset": "usage_events", "format": "parquet"},
        },
    ),
    responses=documented(401, 403, 409, 413, 415, 422),
)
async def ask_for_export(request: Request, caller: Authenticated, key: Key = None) -> JSONResponse:
    """Request a file with a dataset of the tenant. It is kept for a week."""
    require_runnable(caller.tenant.id, caller.tenant, registry[JOB])
    asked = await read_json(request, ExportRequest)

    async def make(session: AsyncSession) -> ExportState:
        export_id = await begin_export(session, asked.dataset, asked.format)
        return _state(await find_export(session, export_id))

    return await answered_once(request, key, as_sent(asked), make)


@router.get("", responses=documented(401))
async def list_exports(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[ExportState]:
    """List the exports that have not expired, the newest first."""
    async with tenant_session() as session:
        return page_of(await EXPORTS.page(session, after=after, limit=limit), _state)


@router.get("/{export_id}", responses=documented(401, 404))
async def show_export(export_id: str, caller: Authenticated) -> ExportState:
    """Show the state of an export and, once it is completed, a link to its file."""
    return _state(await _find(export_id))


@router.get(
    "/{export_id}/file",
    response_class=StreamingResponse,
    responses={**FILE, **documented(401, 404, 409)},
)
async def download_export(export_id: str, caller: Authenticated) -> StreamingResponse:
    """Download the file of a completed export."""
    export = await _find(export_id)
    return await attachment(current_storage(), path_of(export), file_name_of(export))


async def _find(export_id: str) -> Export:
    """Returns the caller's export; raises the same `ExportUnknown` for another tenant's."""
    parsed = identified(export_id, ExportUnknown)
    try:
        async with tenant_session() as session:
            return await find_export(session, parsed)
    except ExportNotFound:
        raise ExportUnknown from None


def _link(export: Export) -> str | None:
    if export.status != RequestStatus.COMPLETED:
        return None
    try:
        return link_of(export)
    except ConfigurationError as error:  # the file can still be downloaded with the key
        log.warning("web.links_unavailable", detail=str(error))
        return None


def _state(export: Export) -> ExportState:
    here = f"{router.prefix}/{export.id}"
    return ExportState(
        id=export.id,
        dataset=ExportDataset(export.dataset),
        format=ExportFormat(export.format),
        status=RequestStatus(export.status),
        rows=export.rows,
        bytes=export.bytes,
        requested_at=export.requested_at,
        completed_at=export.completed_at,
        expires_at=export.expires_at,
        download_url=_link(export),
        links=ExportLinks(self=here, file=f"{here}/file", job=f"/jobs/{JOB}/{export.id}"),
    )

"""Imports of contacts: uploads a file, and reports its progress."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from activities.imports import ImportNotFound, cancel_waiting, find_import
from activities.uploads import JOB, UNSURE, named_encoding, request_import, stored_file
from processes.web.callers import Authenticated
from processes.web.connections import CALLER_ENDED
from processes.web.door import door_of
from processes.web.errors import documented
from processes.web.files import attachment
from processes.web.idempotency import Key, answered_once
from processes.web.paging import LIMIT, After, ItemPage, Limit, identified, page_of
from processes.web.refusals import ErrorFileUnknown, ImportEnded, ImportUnknown
from processes.web.sentences import sentence
from processes.web.uploads import FORM, digested, receiving
from saas.database.contacts import Import, ImportStatus
from saas.requests.lists import IMPORTS
from saas.services.object_storage import current_storage
from temporal_tenancy import WorkflowId, current_tenant, registry, tenant_session
from temporal_tenancy.core import require_runnable
from temporal_tenancy.postgres import DatabaseUnreachable

FILE: Final[dict[str, Any]] = {  # OpenAPI of a body that FastAPI does not parse
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "encoding": {"type": "string"},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            },
            "text/csv": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": 'Events "progress", whose data is the import as in GET '
        "/imports/{import_id}; the last one reports the end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {
        "description": "The import has ended, as the caller's last event said: do not reconnect."
    },
}
CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "CSV.", "content": {"text/csv": {"schema": {"type": "string"}}}}
}

log: Final = structlog.get_logger(__name__)
router: Final = APIRouter(prefix="/imports", tags=["imports"])


class ImportLinks(BaseModel):
    """Links to an import."""

    self: str
    events: str
    errors: str
    cancel: str


class EncodingCandidate(BaseModel):
    """A possible encoding of a file, with some of its lines in it."""

    encoding: str
    sample: list[str]


class ImportState(BaseModel):
    """The state of an import; at any time, rows = imported + updated + rejected."""

    id: UUID
    tenant_id: str
    status: ImportStatus
    rows: int
    imported: int
    updated: int
    rejected: int
    error_file: str | None  # in the object storage; links.errors has its content
    file_name: str
    dry_run: bool
    encoding: str | None  # None if it is unsure
    encoding_by: str | None  # named | mark | bytes | detected | unsure
    candidates: list[EncodingCandidate]  # if the encoding is unsure
    delimiter: str | None  # None: the header has not been read
    progress: float  # share of the file that has been read, 0 to 1
    error: str | None  # why it failed
    error_type: str | None
    started_by: str
    created_at: datetime
    ended_at: datetime | None
    links: ImportLinks


async def stream_slot(request: Request, caller: Authenticated) -> AsyncIterator[None]:
    """Counts the stream against the tenant's limit until it ends."""
    with door_of(request).admission.streams.taken(caller.tenant.id):
        yield


async def upload_slot(request: Request, caller: Authenticated) -> AsyncIterator[None]:
    """Counts the upload against the limits of the tenant and the address until it is answered."""
    admission = door_of(request).admission
    with (
        admission.tenant_uploads.taken(caller.tenant.id),
        admission.uploads.taken(request.state.address),
    ):
        yield


@router.post(
    "",
    status_code=202,
    response_model=ImportState,
    openapi_extra=FILE,
    responses=documented(401, 403, 408, 409, 413, 415, 422, 429, 503),
    dependencies=[Depends(upload_slot)],
)
async def start_import(
    request: Request,
    caller: Authenticated,
    *,
    dry_run: bool = False,
    file_name: str | None = None,
    encoding: str | None = None,
    key: Key = None,
) -> JSONResponse:
    """Upload a CSV file of contacts, and import it.

    The file is the field `file` of a form, or the body itself. The response is sent once the file
    is stored. `dry_run` only counts what the import would do. The encoding is that of the parameter
    or form field `encoding`, else the `charset` of the file's content type, else it is detected.
    """
    door = door_of(request)
    require_runnable(caller.tenant.id, caller.tenant, registry[JOB])
    if encoding:
        named_encoding(encoding)
    seconds = door.admission.limits.upload_seconds
    digest = hashlib.sha256()
    async with (
        receiving(request, door.upload_max_bytes, seconds, file_name=file_name) as upload,
        stored_file(
            upload.pieces if key is None else digested(upload.pieces, digest),
            encoding=encoding or upload.named_encoding,
        ) as file,
    ):

        async def make(session: AsyncSession) -> ImportState:
            import_id = await request_import(
                session,
                file,
                file_name=upload.file_name,
                started_by=caller.name,
                dry_run=dry_run,
            )
            return _state(await find_import(session, import_id))

        # Not the body itself: a form has a new boundary each time.
        sent = {
            "file": digest.hexdigest(),
            "name": upload.file_name,
            "encoding": upload.named_encoding(),
        }
        return await answered_once(request, key, sent, make)


@router.get("", responses=documented(401))
async def list_imports(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[ImportState]:
    """List the imports, the newest first."""
    async with tenant_session() as session:
        return page_of(await IMPORTS.page(session, after=after, limit=limit), _state)


@router.get("/{import_id}", responses=documented(401, 404))
async def show_import(import_id: str, caller: Authenticated) -> ImportState:
    """Show the state of an import."""
    return _state(await _find(import_id))


@router.get(
    "/{import_id}/events",
    response_class=StreamingResponse,
    responses={**EVENTS, **documented(401, 404)},
    dependencies=[Depends(stream_slot)],
)
async def watch_import(request: Request, import_id: str, caller: Authenticated) -> Response:
    """Watch an import until it ends, as server-sent events.

    The stream closes after at most ten minutes, or when the caller closes the sending half of the
    connection; a new stream starts with the import's current state. A client that reconnects after
    the last event, as `EventSource` does, gets 204, which tells it to stop.
    """
    first = _state(await _find(import_id))
    ended = first.status is not ImportStatus.PROCESSING
    if ended and request.headers.get("last-event-id") == _event_id(first):
        return Response(status_code=204)
    return StreamingResponse(
        _progress(request, first),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # or nginx would buffer the events
    )


@router.get(
    "/{import_id}/errors",
    response_class=StreamingResponse,
    responses={**CSV, **documented(401, 404)},
)
async def download_errors(import_id: str, caller: Authenticated) -> StreamingResponse:
    """Download the rejected rows with their line numbers and reasons, as CSV."""
    found = await _find(import_id)
    if found.error_file is None:
        raise ErrorFileUnknown
    return await attachment(current_storage(), found.error_file, f"errors-{found.id}.csv")


@router.post("/{import_id}/cancel", status_code=202, responses=documented(401, 404, 409))
async def cancel_import(request: Request, import_id: str, caller: Authenticated) -> ImportState:
    """Cancel an import. It ends after the batch being written; imported rows stay."""
    found = await _find(import_id)
    workflow_id = WorkflowId(current_tenant(), JOB, str(found.id))
    if found.status == ImportStatus.PROCESSING and not await door_of(request).runs.cancel(
        str(workflow_id)
    ):
        await cancel_waiting(found.id)
    elif found.status != ImportStatus.PROCESSING:
        raise ImportEnded(f"this import is already {found.status}.")
    return _state(await _find(import_id))


async def _progress(request: Request, state: ImportState) -> AsyncIterator[bytes]:
    door = door_of(request)
    watch = door.watch
    began = sent_at = time.monotonic()
    yield _event(state)
    while state.status is ImportStatus.PROCESSING and time.monotonic() - began < watch.longest:
        with suppress(TimeoutError):
            await asyncio.wait_for(door.stopping.wait(), watch.poll)
            return
        if getattr(request.state, CALLER_ENDED, False):
            return  # most such callers are gone, and would hold a slot
        try:
            now = _state(await _find(str(state.id)))
        except DatabaseUnreachable:
            log.warning("web.stream_interrupted")
            return  # the client reconnects
        if now != state:
            yield _event(now)
            state, sent_at = now, time.monotonic()
        elif time.monotonic() - sent_at >= watch.heartbeat:
            yield KEEPALIVE_COMMENT
            sent_at = time.monotonic()


def _event(state: ImportState) -> bytes:
    return format_sse_event(event="progress", data_str=state.model_dump_json(), id=_event_id(state))


def _event_id(state: ImportState) -> str:
    """Returns the id that a client sends back when it reconnects."""
    return f"{state.status}/{state.rows}"


async def _find(import_id: str) -> Import:
    """Returns the caller's import; raises the same `ImportUnknown` for another tenant's."""
    parsed = identified(import_id, ImportUnknown)
    try:
        async with tenant_session() as session:
            return await find_import(session, parsed)
    except ImportNotFound:
        raise ImportUnknown from None


def _state(found: Import) -> ImportState:
    ended = found.status == ImportStatus.COMPLETED
    return ImportState(
        id=found.id,
        tenant_id=found.tenant_id,
        status=ImportStatus(found.status),
        rows=found.rows,
        imported=found.imported,
        updated=found.updated,
        rejected=found.rejected,
        error_file=found.error_file,
        file_name=found.file_name,
        dry_run=found.dry_run,
        encoding=None if found.encoding == UNSURE else found.encoding,
        encoding_by=found.encoding_by,
        candidates=[EncodingCandidate(**each) for each in found.candidates],
        delimiter=found.delimiter and found.delimiter[0],
        progress=1.0 if ended else round(found.position / max(found.size, 1), 4),
        error=found.error and sentence(found.error),
        error_type=found.error_type,
        started_by=found.started_by,
        created_at=found.created_at,
        ended_at=found.ended_at,
        links=_links(found.id),
    )


def _links(import_id: UUID) -> ImportLinks:
    here = f"{router.prefix}/{import_id}"
    return ImportLinks(
        self=here, events=f"{here}/events", errors=f"{here}/errors", cancel=f"{here}/cancel"
    )

"""Serves tenants' files by signed, expiring links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from processes.web.door import door_of
from processes.web.errors import documented
from processes.web.files import attachment
from processes.web.refusals import FileUnknown
from saas.services.links import DOWNLOADS, LinkTarget, read_link
from saas.services.object_storage import current_storage
from temporal_tenancy import TenantStatus
from temporal_tenancy.postgres import acting_for

FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": {}}}
}

router: Final = APIRouter(prefix=DOWNLOADS, tags=["downloads"])


async def opened(request: Request, token: str) -> AsyncIterator[LinkTarget]:
    """Verifies the link, whose signature is the credential, and enters its tenant's scope."""
    target = read_link(token, datetime.now(UTC))
    door = door_of(request)
    tenant = await door.directory.find(target.tenant_id)
    if tenant is None or tenant.status is TenantStatus.DELETED:
        raise FileUnknown
    request.state.tenant_id = tenant.id
    await door.rates.admit(tenant, "downloads")
    with door.admission.tenant_requests.taken(tenant.id), acting_for(tenant, door.database):
        yield target


@router.get(
    "/{token}",
    response_class=StreamingResponse,
    responses={**FILE, **documented(404, 410, 429)},
)
async def download(target: Annotated[LinkTarget, Depends(opened)]) -> StreamingResponse:
    """Download a file by its signed link."""
    name = target.path.rsplit("/", 1)[-1]
    return await attachment(current_storage(), target.path, name)

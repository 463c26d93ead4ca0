"""A tenant's integrations: set up, listed, removed and synced. No response has a credential."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from processes.web.bodies import read_json
from processes.web.callers import Authenticated
from processes.web.errors import documented
from processes.web.idempotency import Key, answered_once
from processes.web.jobs import AskedJob, asked_job
from processes.web.paging import LIMIT, After, ItemPage, Limit
from processes.web.reference import json_body
from processes.web.refusals import IntegrationUnknown
from saas.database.integrations import Integration, SyncStatus
from saas.requests.integrations import (
    INTEGRATIONS,
    JOB,
    URL_MAX_CHARACTERS,
    IntegrationNotFound,
    find_integration,
    has_credential,
    remove_integration,
    request_sync,
    set_up_integration,
)
from temporal_tenancy import registry, tenant_session
from temporal_tenancy.core import require_runnable

router: Final = APIRouter(prefix="/integrations", tags=["integrations"])


class IntegrationRequest(BaseModel):
    """A partner's API, and the credential for it."""

    model_config = ConfigDict(frozen=True)

    url: str = Field(
        max_length=URL_MAX_CHARACTERS,
        description="https, without credentials.",
        examples=["https://api.partner.example/records"],
    )
    credential: SecretStr | None = Field(
        None,
        description="Sent as a bearer token, and never returned. Omit it to keep the stored one, "
        "which is possible while the URL leads to the same host.",
        examples=["the partner's token"],
    )


class IntegrationLinks(BaseModel):
    """Links to an integration."""

    self: str
    sync: str


class IntegrationState(BaseModel):
    """The state of an integration."""

    name: str
    url: str
    status: SyncStatus
    error: str | None  # why the last sync failed; null unless the status is "failed"
    last_synced_at: datetime | None  # when all pages were last copied
    created_at: datetime
    has_credential: bool  # whether it can be synced
    links: IntegrationLinks


@router.put(
    "/{name}",
    openapi_extra=json_body(
        IntegrationRequest,
        {
            "with its credential": {
                "url": "https://api.partner.example/records",
                "credential": "the partner's token",
            },
            "another path": {"url": "https://api.partner.example/v2/records"},
        },
    ),
    responses={
        201: {"model": IntegrationState, "description": "It was added."},
        **documented(401, 403, 413, 415, 422),
    },
)
async def put_integration(
    request: Request, response: Response, name: str, caller: Authenticated
) -> IntegrationState:
    """Set up an integration, or change it. A changed URL is read from the beginning.

    The credential goes to the secret store; no response, row or log has it.
    """
    require_runnable(caller.tenant.id, caller.tenant, registry[JOB])
    asked = await read_json(request, IntegrationRequest)
    secret = asked.credential
    async with tenant_session() as session:
        done = await set_up_integration(
            session,
            name,
            url=asked.url,
            credential=None if secret is None else secret.get_secret_value(),
            actor=caller.name,
        )
    response.status_code = 201 if done.added else 200
    return await _state(done.integration)


@router.get("", responses=documented(401))
async def list_integrations(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[IntegrationState]:
    """List the integrations by name."""
    async with tenant_session() as session:
        page = await INTEGRATIONS.page(session, after=after, limit=limit)
        return ItemPage(items=[await _state(each) for each in page.rows], next=page.next)


@router.get("/{name}", responses=documented(401, 404))
async def show_integration(name: str, caller: Authenticated) -> IntegrationState:
    """Show the state of an integration."""
    try:
        async with tenant_session() as session:
            return await _state(await find_integration(session, name))
    except IntegrationNotFound:
        raise IntegrationUnknown from None


@router.delete("/{name}", status_code=204, responses=documented(401, 404))
async def delete_integration(name: str, caller: Authenticated) -> Response:
    """Remove an integration with its records and its credential."""
    try:
        async with tenant_session() as session:
            await remove_integration(session, name, actor=caller.name)
    except IntegrationNotFound:
        raise IntegrationUnknown from None
    return Response(status_code=204)


@router.post(
    "/{name}/sync",
    status_code=202,
    response_model=AskedJob,
    responses=documented(401, 403, 404, 409),
)
async def sync_integration(
    request: Request, name: str, caller: Authenticated, key: Key = None
) -> JSONResponse:
    """Request a sync, which copies the partner's new records; at most one starts per minute."""
    job = registry[JOB]
    require_runnable(caller.tenant.id, caller.tenant, job)

    async def make(session: AsyncSession) -> AskedJob:
        try:
            return asked_job(job, await request_sync(session, name))
        except IntegrationNotFound:
            raise IntegrationUnknown from None

    return await answered_once(request, key, {}, make)


async def _state(integration: Integration) -> IntegrationState:
    """Returns an integration's state; asks the tenant's secret store."""
    here = f"{router.prefix}/{integration.name}"
    return IntegrationState(
        name=integration.name,
        url=integration.url,
        status=SyncStatus(integration.status),
        error=integration.failure,
        last_synced_at=integration.last_synced_at,
        created_at=integration.created_at,
        has_credential=await has_credential(integration),
        links=IntegrationLinks(self=here, sync=f"{here}/sync"),
    )

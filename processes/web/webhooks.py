"""Receives the payment provider's webhooks: the URL names the tenant, the signature proves it."""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel

from activities.payments import receive_payment_event
from processes.web.bodies import JSON_MAX_BYTES, read_body, refuse_announced
from processes.web.door import Door, door_of
from processes.web.errors import documented
from processes.web.hosts import agrees, host_tenant
from processes.web.refusals import WebhookSecretUnfit
from saas.services.secrets import SecretMissing, current_secrets
from saas.services.webhooks import SECRET_MIN_BYTES, WebhookRejected, claimed, signing_key, verify
from temporal_tenancy import (
    ConfigurationError,
    TenancyError,
    Tenant,
    TenantStatus,
    current_tenant,
    tenant_id,
    tenant_session,
)
from temporal_tenancy.postgres import acting_for

SECRET: Final = "payments.webhook"  # noqa: S105  # the name of a secret
PREVIOUS_SECRET: Final = "payments.webhook.previous"  # noqa: S105  # during a rotation
# Without a secret the signature is compared with this one: a faster response would reveal which
# tenants exist.
NOBODYS_SECRET: Final = f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_MIN_BYTES)).decode()}"

SIGNED: Final[dict[str, Any]] = {  # OpenAPI of a request that FastAPI does not parse
    "parameters": [
        {"in": "header", "name": name, "required": True, "schema": {"type": "string"}}
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
}

_log: Final = logging.getLogger(__name__)
router: Final = APIRouter(prefix="/webhooks", tags=["webhooks"])


class Received(BaseModel):
    """The event has been stored, now or by an earlier delivery."""

    received: bool = True


@router.post(
    "/payments/{tenant}", openapi_extra=SIGNED, responses=documented(401, 408, 413, 415, 429, 503)
)
async def payments(request: Request, tenant: str) -> Received:
    """Receive the payment provider's event for a tenant, signed as Standard Webhooks specifies.

    Receiving an event again is a success too. The event is only stored; a job applies it.
    """
    door = door_of(request)
    named = host_tenant(request, door.domain)
    return await _receive(request, door, tenant if agrees(named, tenant) else None)


@router.post("/payments", openapi_extra=SIGNED, responses=documented(401, 408, 413, 415, 429, 503))
async def payments_by_host(request: Request) -> Received:
    """The same as `/webhooks/payments/{tenant}`, on a tenant's own host name."""
    door = door_of(request)
    return await _receive(request, door, host_tenant(request, door.domain))


async def _receive(request: Request, door: Door, named: str | None) -> Received:
    refuse_announced(request, JSON_MAX_BYTES)
    claimed(request.headers, datetime.now(UTC))  # rejects most forgeries before reading the body
    with door.admission.webhooks.taken(request.state.address):
        body = await read_body(request, seconds=door.admission.limits.webhook_seconds)
        return await _verified(request, door, named, body)


async def _verified(request: Request, door: Door, named: str | None, body: bytes) -> Received:
    now = datetime.now(UTC)
    tenant = await _tenant(door, named)
    if tenant is None:
        verify([NOBODYS_SECRET], request.headers, body, now)
        raise WebhookRejected  # nobody could have signed it
    with acting_for(tenant, door.database):
        keys, unfit = await asyncio.to_thread(_secrets)
        try:
            event = verify(keys or [NOBODYS_SECRET], request.headers, body, now)
        except WebhookRejected:
            if unfit:
                raise WebhookSecretUnfit from None
            raise
        request.state.tenant_id = tenant.id
        await door.rates.admit(tenant, "webhooks")
        async with tenant_session() as session:
            await receive_payment_event(session, event)
    return Received()


async def _tenant(door: Door, named: str | None) -> Tenant | None:
    try:
        tenant = await door.directory.find(tenant_id(named))
    except TenancyError:
        return None
    return None if tenant is None or tenant.status is TenantStatus.DELETED else tenant


def _secrets() -> tuple[Sequence[str], bool]:
    """Returns the secrets of the current tenant's endpoint, and whether one of them is unusable.

    An unusable secret is our own mistake, so the provider is asked to retry later.
    """
    found, unfit = [], False
    for name in (SECRET, PREVIOUS_SECRET):
        try:
            secret = current_secrets().find(name)
            if secret is not None:
                signing_key(secret)
                found.append(secret)
        except (SecretMissing, ConfigurationError) as error:
            _log.error(
                "webhook_secret_unfit",
                extra={"tenant_id": current_tenant(), "setting": name, "reason": str(error)},
            )
            unfit = True
    return found, unfit

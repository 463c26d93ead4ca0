"""Authenticates the caller, and enters the caller's tenant scope."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from processes.web.door import Door, door_of
from processes.web.hosts import agrees, host_tenant
from processes.web.refusals import InvalidRequest, Unauthenticated, WrongHost
from processes.web.tokens import TokenRejected
from temporal_tenancy import Tenant, TenantStatus
from temporal_tenancy.control_plane import ApiKeys
from temporal_tenancy.postgres import acting_for

BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description=f'An API key ("{ApiKeys.MARK}…"), or a JWT whose claim "tenant" names the tenant.',
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


@dataclass(frozen=True)
class Caller:
    """The caller of a request, identified by its credential alone."""

    tenant: Tenant
    name: str  # the key or user, for people to read


async def authenticated(request: Request, credentials: Credentials) -> AsyncIterator[Caller]:
    """Authenticates the caller, and keeps the tenant's scope until the response is sent.

    Raises:
        Unauthenticated: the credential is not valid, or its tenant is deleted.
        WrongHost: the host name belongs to another tenant.
        RateExceeded: the tenant makes too many requests, or the caller's address has tried too many
            invalid keys.
        InvalidRequest: the query has an unknown or repeated parameter.
    """
    door = door_of(request)
    if credentials is None or len(request.headers.getlist("authorization")) != 1:
        raise Unauthenticated
    address: str = request.state.address
    async with door.admission.key_tries.trying(address, credentials.credentials):
        caller = await _identify(door, credentials.credentials)
    request.state.tenant_id = caller.tenant.id
    if not agrees(host_tenant(request, door.domain), caller.tenant.id):
        raise WrongHost
    await door.rates.admit(caller.tenant)
    _refuse_unknown_parameters(request)
    requests = door.admission.tenant_requests
    with requests.taken(caller.tenant.id), acting_for(caller.tenant, door.database):
        yield caller


Authenticated = Annotated[Caller, Depends(authenticated)]


async def _identify(door: Door, credential: str) -> Caller:
    if credential.startswith(ApiKeys.MARK):
        key = await door.keys.find(credential)
        if key is None:
            raise Unauthenticated
        tenant_id, name = key.tenant_id, f'key {key.prefix}… "{key.name}"'
    elif door.tokens is not None:
        try:
            claims = door.tokens.read(credential)
        except TokenRejected:
            raise Unauthenticated from None
        tenant_id, name = claims.tenant_id, claims.subject or "a JWT without a subject"
    else:
        raise Unauthenticated
    tenant = await door.directory.find(tenant_id)
    if tenant is None or tenant.status is TenantStatus.DELETED:
        raise Unauthenticated
    return Caller(tenant, name)


def _refuse_unknown_parameters(request: Request) -> None:
    """Rejects parameters that would be ignored: "?tenant_id=…" does not choose a tenant.

    Rejects repeated ones too: of "?dry_run=true&dry_run=false" only the second would count.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = {field.alias for field in route.dependant.query_params}
    if not set(request.query_params) <= known:
        takes = f"The known ones are: {', '.join(sorted(known))}." if known else "Remove it."
        raise InvalidRequest(
            f"the URL has an unknown parameter. {takes} The tenant is always the key's."
        )
    if len(request.query_params.multi_items()) > len(request.query_params):
        raise InvalidRequest("the URL has a parameter twice. Send it once.")

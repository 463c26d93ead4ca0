"""Who calls, and the scope that the call is answered in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from processes.web.door import Door, door_of
from processes.web.hosts import host_tenant
from processes.web.refusals import InvalidRequest, Unauthenticated, WrongHost
from processes.web.tokens import TokenRejected
from temporal_tenancy.control_plane.api_keys import ApiKeys
from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.postgres.acting import acting_for

BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description=f'An API key ("{ApiKeys.MARK}…"), or a JWT whose claim "tenant" names the tenant.',
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


@dataclass(frozen=True)
class Caller:
    """Whose call it is, by its credential and by nothing else that it says."""

    tenant: Tenant
    name: str  # which key or user, for people


async def authenticated(request: Request, credentials: Credentials) -> AsyncIterator[Caller]:
    """Lets a tenant's caller in, and answers in the tenant's scope until the answer is sent.

    Raises:
        Unauthenticated: the credential is none, or its tenant is gone.
        WrongHost: the host name is another tenant's.
        RateExceeded: the tenant calls too often, or too much at once, or the caller's address has
            tried too many keys that are none.
        InvalidRequest: the address has a parameter that nothing heeds.
    """
    door = door_of(request)
    if credentials is None or len(request.headers.getlist("authorization")) != 1:
        raise Unauthenticated
    address: str = request.state.address
    async with door.admission.key_tries.trying(address, credentials.credentials):
        caller = await _identify(door, credentials.credentials)
    request.state.tenant_id = caller.tenant.id
    named = host_tenant(request, door.domain)
    if named is not None and named != caller.tenant.id:
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
    """Refuses what would be passed over: "?tenant_id=…" chooses no tenant, and is told so.

    So is the first of two: of "?dry_run=true&dry_run=false" only the other would count.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = {field.alias for field in route.dependant.query_params}
    if not set(request.query_params) <= known:
        takes = f"It takes: {', '.join(sorted(known))}." if known else "It takes none."
        raise InvalidRequest(
            f"the address has a parameter that is not known here. {takes} Whose data it is about "
            "is the key's tenant, always."
        )
    if len(request.query_params.multi_items()) > len(request.query_params):
        raise InvalidRequest("the address has a parameter twice. Give it once.")

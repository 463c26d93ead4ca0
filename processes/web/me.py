"""Tells a caller whose key it uses, and what the tenant may do."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel

from processes.web.callers import Authenticated
from processes.web.errors import documented
from temporal_tenancy import TenantStatus

router: Final = APIRouter(tags=["me"])


class Me(BaseModel):
    """The caller's tenant, and the caller."""

    tenant_id: str
    name: str
    status: TenantStatus
    plan: str
    features: list[str]  # the plan's and the tenant's own
    time_zone: str  # an IANA name: its days and months are the tenant's
    trial_ends_at: datetime | None
    caller: str  # whose key or token this is, for people to read


@router.get("/me", responses=documented(401))
async def show_me(caller: Authenticated) -> Me:
    """Show whose key this is: the tenant, its plan, features and time zone."""
    tenant = caller.tenant
    return Me(
        tenant_id=tenant.id,
        name=tenant.name,
        status=tenant.status,
        plan=tenant.plan.id,
        features=sorted(tenant.plan.features | tenant.features),
        time_zone=tenant.time_zone,
        trial_ends_at=tenant.trial_ends_at,
        caller=caller.name,
    )

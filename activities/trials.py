"""Trials: what a tenant becomes when its own is over."""

from __future__ import annotations

from datetime import UTC

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from saas.database import audit
from saas.database.tables import Subscription, SubscriptionStatus
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.activities import platform_activity, tenant_activity
from temporal_tenancy.core.directory import TenantStatus, current_tenant_record
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.postgres.database import current_database, tenant_session
from temporal_tenancy.sdk.heartbeats import heartbeating


class LookAtTrial(BaseModel):
    """Asks whether a trial is over."""

    at: AwareDatetime


class Trial(BaseModel):
    """Where a tenant's trial stands."""

    over: bool
    plan: str | None = None  # what the tenant has subscribed to


class EndTrial(TenantInput):
    """Asks for a trial to be ended that is over."""

    at: AwareDatetime
    plan: str | None


class EndedTrial(BaseModel):
    """What a tenant has become, now that its trial has ended."""

    ended_at: AwareDatetime
    status: TenantStatus
    plan: str


@tenant_activity
@heartbeating()
async def look_at_trial(request: LookAtTrial) -> Trial:
    """Says whether the tenant's trial is over, and what it has subscribed to if so."""
    tenant = current_tenant_record()
    is_trial = tenant.status is TenantStatus.TRIAL
    if not is_trial or tenant.trial_ends_at is None or tenant.trial_ends_at > request.at:
        return Trial(over=False)
    async with tenant_session() as session:
        paid = Subscription.status != SubscriptionStatus.CANCELLED
        return Trial(over=True, plan=await session.scalar(select(Subscription.plan).where(paid)))


@platform_activity("changes a tenant's status, which is the control plane's")
@heartbeating()
async def end_trial(request: EndTrial) -> EndedTrial | None:
    """Ends the trial, if it is over still; None where there was nothing to end.

    What the directory remembers may be some seconds old: the control plane is asked itself.
    """
    tenant = await Tenants(current_database()).end_trial(
        request.tenant_id, plan=request.plan, at=request.at
    )
    if tenant is None or tenant.trial_ends_at is None:
        return None
    return EndedTrial(ended_at=tenant.trial_ends_at, status=tenant.status, plan=tenant.plan.id)


@tenant_activity
@heartbeating()
async def note_trial_end(ended: EndedTrial) -> None:
    """Writes the end into the tenant's audit log, once.

    The control plane's role has no way there, so it is a transaction of its own.
    """
    ended_at = ended.ended_at.astimezone(UTC).isoformat()
    async with tenant_session() as session:
        await audit.record(
            session, "trial.ended", ended_at, once=ended_at, status=ended.status, plan=ended.plan
        )

"""Trials: ends a tenant's trial when it is over."""

from __future__ import annotations

from datetime import UTC

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from saas.database import audit
from saas.database.models import Subscription, SubscriptionStatus
from temporal_tenancy import (
    TenantInput,
    TenantStatus,
    current_database,
    current_tenant_record,
    heartbeating,
    platform_activity,
    tenant_activity,
    tenant_session,
)
from temporal_tenancy.control_plane import Tenants


class LookAtTrial(BaseModel):
    """Input of `look_at_trial`: the time to check at."""

    at: AwareDatetime


class Trial(BaseModel):
    """The state of a tenant's trial."""

    over: bool
    plan: str | None = None  # the plan that the tenant has subscribed to


class EndTrial(TenantInput):
    """Input of `end_trial`: a trial that is over, and the subscribed plan."""

    at: AwareDatetime
    plan: str | None


class EndedTrial(BaseModel):
    """A tenant's status and plan after its trial."""

    ended_at: AwareDatetime
    status: TenantStatus
    plan: str


@tenant_activity
@heartbeating()
async def look_at_trial(request: LookAtTrial) -> Trial:
    """Returns whether the tenant's trial is over and, if so, the plan that it has subscribed to."""
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
    """Ends the trial if it is still over; returns None if there was nothing to end.

    It checks the control plane itself, as the cached directory may be some seconds old.
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
    """Records the end of the trial in the tenant's audit log, once.

    It is a separate transaction, as the control plane's role cannot write to the audit log.
    """
    ended_at = ended.ended_at.astimezone(UTC).isoformat()
    async with tenant_session() as session:
        await audit.record(
            session, "trial.ended", ended_at, once=ended_at, status=ended.status, plan=ended.plan
        )

"""Decides how many of a tenant's waiting messages may be released now, and says why others wait.

A message that is not released holds no worker's slot and delays no other tenant.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.identifiers import scoped_key
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.postgres import locks
from temporal_tenancy.postgres.library_text import library_text

_DECISIONS: Final = library_text("""
    select tenant_id, paused_since, paused_reason, concurrency_cap
    from tenancy.admission
    where tenant_id = any(cast(:tenants as text[]))
""")
_IN_FLIGHT: Final = library_text("""
    select tenant_id, count(*) as how_many
    from tenancy.in_flight
    where tenant_id = any(cast(:tenants as text[]))
    group by tenant_id
""")


@dataclass(frozen=True)
class Decision:
    """An operator's settings for a tenant's messages; `Decision()` changes nothing."""

    paused_since: datetime | None = None  # aware; None: not paused
    paused_reason: str | None = None
    concurrency_cap: int | None = None  # workflows; None: the plan's


@dataclass(frozen=True)
class Allowance:
    """How many workflows may be started for a tenant now."""

    quota: int  # workflows, at least 1
    capped: bool  # whether each takes one of the tenant's slots
    only: Sequence[str] | None = None  # the names of the jobs allowed; None: all


NOTHING: Final = Decision()


def cap_of(tenant: Tenant | None, decision: Decision) -> int | None:
    """Returns how many of a tenant's jobs may run at once: the operator's cap, or else the plan's.

    Args:
        tenant: the tenant's record, or None if the directory has none.
        decision: the operator's settings, from `decisions()`.

    Returns:
        A number of workflows, or None for no limit.
    """
    if decision.concurrency_cap is not None:
        return decision.concurrency_cap
    return None if tenant is None else tenant.plan.concurrency_cap


def held_back(tenant: Tenant | None, decision: Decision, job: Job | None = None) -> str | None:
    """Returns why a tenant's messages are held back, or None if they are released.

    A pause holds back every message, a suspension those of jobs that do not run during one. The
    messages of an unknown or deleted tenant are released: each is rejected and becomes a dead
    letter.

    Args:
        tenant: the tenant's record, or None if the directory has none.
        decision: the operator's settings, from `decisions()`.
        job: the job of the messages in question; None stands for a job that does not run during a
            suspension.

    Returns:
        A clause such as "it is suspended since 2026-11-02", or None. It omits a day that is not
        known.
    """
    if decision.paused_since is not None:
        reason = f" ({decision.paused_reason})" if decision.paused_reason else ""
        return f"its messages are paused since {decision.paused_since.date().isoformat()}{reason}"
    runs_suspended = job is not None and TenantStatus.SUSPENDED in job.statuses
    if tenant is not None and tenant.status is TenantStatus.SUSPENDED and not runs_suspended:
        return f"it is suspended{tenant.since}"
    return None


async def decisions(session: AsyncSession, tenants: Sequence[str]) -> Mapping[str, Decision]:
    """Returns the operators' settings for `tenants`, by tenant id; tenants without any are omitted.

    Args:
        session: a `platform_session()` of the platform's role or the relay's.
        tenants: tenant ids.
    """
    rows = await session.execute(_DECISIONS, {"tenants": list(tenants)})
    return {
        row.tenant_id: Decision(row.paused_since, row.paused_reason, row.concurrency_cap)
        for row in rows
    }


async def in_flight(session: AsyncSession, tenants: Sequence[str]) -> Mapping[str, int]:
    """Returns how many workflows count against each tenant's cap, by tenant id; zeros are omitted.

    Args:
        session: a `platform_session()` of the platform's role or the relay's.
        tenants: tenant ids.
    """
    rows = await session.execute(_IN_FLIGHT, {"tenants": list(tenants)})
    return {row.tenant_id: row.how_many for row in rows}


async def allowances(
    session: AsyncSession,
    tenants: Sequence[str],
    records: Mapping[str, Tenant],
    *,
    room: int,
    partial: bool,
) -> Mapping[str, Allowance]:
    """Divides `room` workflows among `tenants` by their plans' weights, at least one each.

    If `tenants` are only a part of those with messages (`partial`), each gets as many workflows as
    its weight: a share of `room` would depend on which other tenants this claim happens to see.
    Omits tenants that are paused, have no free slot, or whose slots another relay is assigning at
    this moment. The locks on slots last until the end of the transaction.
    """
    decided = await decisions(session, tenants)
    caps = {
        tenant: cap_of(records.get(tenant), decided.get(tenant, NOTHING))
        for tenant in tenants
        if decided.get(tenant, NOTHING).paused_since is None
    }

    def suspended(tenant: str) -> bool:
        record = records.get(tenant)
        return record is not None and record.status is TenantStatus.SUSPENDED

    left = await _slots_left(session, {t: cap for t, cap in caps.items() if cap is not None})
    weights = {
        tenant: records[tenant].plan.fairness_weight if tenant in records else 1.0
        for tenant, cap in caps.items()
        if cap is None or left.get(tenant, 0) > 0
    }
    unit = 1.0 if partial else room / sum(weights.values(), start=0.0) if weights else 0.0
    return {
        tenant: Allowance(
            quota=min(max(1, int(unit * weight)), room, left.get(tenant, room)),
            capped=caps[tenant] is not None,
            only=_jobs_that_run_suspended(caps[tenant]) if suspended(tenant) else None,
        )
        for tenant, weight in weights.items()
    }


def _jobs_that_run_suspended(cap: int | None) -> Sequence[str]:
    """Returns the jobs that run during a suspension; under a cap only one, so no slot is reused."""
    names = [
        job.name
        for job in registry.values()
        if job.kind == "tenant" and TenantStatus.SUSPENDED in job.statuses
    ]
    return names if cap is None or not names else [random.choice(names)]  # noqa: S311  # no secret


async def _slots_left(session: AsyncSession, caps: Mapping[str, int]) -> Mapping[str, int]:
    if not caps:
        return {}
    # Two relays must not both assign a tenant's last slot. The one that does not get the lock skips
    # the tenant until its next claim.
    names = {tenant: scoped_key(tenant, "admission", "slots") for tenant in caps}
    free = await locks.take_free(session, names.values())
    ours = [tenant for tenant, name in names.items() if name in free]
    # A separate statement, so that it sees what the lock's previous holder has written.
    in_use = await in_flight(session, ours)
    return {tenant: caps[tenant] - in_use.get(tenant, 0) for tenant in ours}

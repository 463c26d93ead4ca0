"""How many of a tenant's waiting messages may be released now, and why the others wait.

What is not released holds no worker's slot, and other tenants' messages go on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.identifiers import scoped_key
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.postgres import locks

_DECISIONS: Final = text("""
    select tenant_id, paused_since, paused_reason, concurrency_cap
    from admission
    where tenant_id = any(cast(:tenants as text[]))
""")
_IN_FLIGHT: Final = text("""
    select tenant_id, count(*) as how_many
    from in_flight
    where tenant_id = any(cast(:tenants as text[]))
    group by tenant_id
""")


@dataclass(frozen=True)
class Decision:
    """What a person has decided of a tenant's messages; `Decision()` is nothing."""

    paused_since: datetime | None = None
    paused_reason: str | None = None
    concurrency_cap: int | None = None


@dataclass(frozen=True)
class Allowance:
    """How many workflows may be started for a tenant now."""

    quota: int
    capped: bool  # each of them takes one of the tenant's slots
    only: Sequence[str] | None = None  # of these jobs; None: of any


NOTHING: Final = Decision()


def cap_of(tenant: Tenant | None, decision: Decision) -> int | None:
    """How many of a tenant's jobs may run at once: what a person has said, or else its plan.

    None: as many as there are. `tenant` is None where the directory knows none.
    """
    if decision.concurrency_cap is not None:
        return decision.concurrency_cap
    return None if tenant is None else tenant.plan.concurrency_cap


def held_back(tenant: Tenant | None, decision: Decision, job: Job | None = None) -> str | None:
    """Why none of a tenant's messages is released, or none of one `job`; None when some may be.

    A suspension holds back what does not run in it, a pause everything. Those of a tenant that is
    unknown or gone are released: each is refused, and a dead letter.
    """
    if decision.paused_since is not None:
        why = f" ({decision.paused_reason})" if decision.paused_reason else ""
        return f"its messages are paused since {decision.paused_since.date().isoformat()}{why}"
    runs_in_it = job is not None and TenantStatus.SUSPENDED in job.statuses
    if tenant is not None and tenant.status is TenantStatus.SUSPENDED and not runs_in_it:
        return f"it is suspended since {tenant.status_since.date().isoformat()}"
    return None


async def decisions(session: AsyncSession, tenants: Sequence[str]) -> Mapping[str, Decision]:
    """What has been decided of `tenants`, by id, as far as anything has.

    `session` is a `platform_session()`, of the platform's role or of the relay's.
    """
    rows = await session.execute(_DECISIONS, {"tenants": list(tenants)})
    return {
        row.tenant_id: Decision(row.paused_since, row.paused_reason, row.concurrency_cap)
        for row in rows
    }


async def in_flight(session: AsyncSession, tenants: Sequence[str]) -> Mapping[str, int]:
    """How many workflows count against the caps of `tenants`, by id, as far as there are any.

    `session` is as that of `decisions`.
    """
    rows = await session.execute(_IN_FLIGHT, {"tenants": list(tenants)})
    return {row.tenant_id: row.how_many for row in rows}


async def allowances(
    session: AsyncSession,
    tenants: Sequence[str],
    records: Mapping[str, Tenant],
    *,
    room: int,
    some: bool,
) -> Mapping[str, Allowance]:
    """Shares `room` workflows among `tenants` by the weights of their plans, at least one each.

    Where they are only `some` of those with messages, each has as many as its weight says: shares
    of what is there would depend on who else is looked at. A tenant is left out that is held back,
    that has no slot left, or whose slots another relay is giving out at this moment. The locks that
    say so last until the transaction's end.
    """
    decided = await decisions(session, tenants)
    open_ = {
        tenant: cap_of(records.get(tenant), decided.get(tenant, NOTHING))
        for tenant in tenants
        if decided.get(tenant, NOTHING).paused_since is None
    }

    def suspended(tenant: str) -> bool:
        record = records.get(tenant)
        return record is not None and record.status is TenantStatus.SUSPENDED

    left = await _slots_left(session, {t: cap for t, cap in open_.items() if cap is not None})
    weights = {
        tenant: records[tenant].plan.fairness_weight if tenant in records else 1.0
        for tenant, cap in open_.items()
        if cap is None or left.get(tenant, 0) > 0
    }
    unit = 1.0 if some else room / sum(weights.values(), start=0.0) if weights else 0.0
    return {
        tenant: Allowance(
            quota=min(max(1, int(unit * weight)), room, left.get(tenant, room)),
            capped=open_[tenant] is not None,
            only=_jobs_in_a_suspension(open_[tenant]) if suspended(tenant) else None,
        )
        for tenant, weight in weights.items()
    }


def _jobs_in_a_suspension(cap: int | None) -> Sequence[str]:
    """Jobs that run in one; under a cap one of them, so that a slot is not given out twice."""
    names = [
        job.name
        for job in registry.values()
        if job.kind == "tenant" and TenantStatus.SUSPENDED in job.statuses
    ]
    return names if cap is None or not names else [random.choice(names)]  # noqa: S311  # no secret


async def _slots_left(session: AsyncSession, caps: Mapping[str, int]) -> Mapping[str, int]:
    if not caps:
        return {}
    # Two relays must not both give out a tenant's last slot. Who does not get the lock leaves the
    # tenant to the other, and comes back.
    names = {tenant: scoped_key(tenant, "admission", "slots") for tenant in caps}
    free = await locks.take_free(session, names.values())
    ours = [tenant for tenant, name in names.items() if name in free]
    # A statement of its own: it sees what whoever had the lock before has written.
    taken = await in_flight(session, ours)
    return {tenant: caps[tenant] - taken.get(tenant, 0) for tenant in ours}

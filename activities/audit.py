"""The audit log: daily counts of its entries."""

from __future__ import annotations

from datetime import date
from typing import Final

from pydantic import BaseModel
from sqlalchemy import text

from activities.days import Day, past_day
from activities.limits import LARGE
from temporal_tenancy import current_tenant, heartbeating, tenant_activity, tenant_session


class AggregateAudit(BaseModel):
    """Input of `aggregate_audit`: the day to count, in UTC."""

    period: Day


class AuditSummary(BaseModel):
    """A day's audit entries, counted by action and actor."""

    period: str
    counts: int  # the number of pairs of action and actor
    entries: int


_CLEAR: Final = text("""
    delete from audit_daily
     where tenant_id = :tenant_id
       and day = :day
""")
_FILL: Final = text("""
    insert into audit_daily (tenant_id, day, action, actor, entries)
    select tenant_id, cast(:day as date), action, actor, count(*)
      from audit_entries
     where tenant_id = :tenant_id
       and at >= :since
       and at < :until
     group by tenant_id, action, actor
    returning entries
""")


@tenant_activity
@heartbeating()
async def aggregate_audit(request: AggregateAudit) -> AuditSummary:
    """Counts a day's entries by action and actor and replaces any earlier counts.

    The day is in UTC for every tenant. It is one transaction and safe to repeat. Raises
    `DayNotOver` before the end of the day.
    """
    since, until = past_day(request.period, "UTC")
    day = {"tenant_id": current_tenant(), "day": date.fromisoformat(request.period)}
    async with tenant_session(limits=LARGE) as session:
        await session.execute(_CLEAR, day)
        counts = (await session.scalars(_FILL, {**day, "since": since, "until": until})).all()
    return AuditSummary(period=request.period, counts=len(counts), entries=sum(counts))

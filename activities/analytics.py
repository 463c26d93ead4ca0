"""Analytics: a month's usage by day, in the tenant's own time zone."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel
from sqlalchemy import text

from activities.limits import LARGE
from activities.months import Month, local_month
from temporal_tenancy import current_tenant_record, heartbeating, tenant_activity, tenant_session
from temporal_tenancy.core import month_bounds


class AggregateUsage(BaseModel):
    """Input of `aggregate_usage`: the month to aggregate."""

    period: Month


class UsageSummary(BaseModel):
    """A month's usage, counted by day."""

    period: str
    days: int  # days with any usage
    events: int


_CLEAR: Final = text("""
    delete from daily_usage
     where tenant_id = :tenant_id
       and day >= :first
       and day < :after
""")
_FILL: Final = text("""
    insert into daily_usage (tenant_id, day, events, cancelled, distance, air_time)
    select tenant_id,
           cast(time_hour at time zone :time_zone as date) as day,
           count(*),
           count(*) filter (where cancelled),
           coalesce(sum(distance) filter (where not cancelled), 0),
           coalesce(sum(air_time), 0)
      from usage_events
     where tenant_id = :tenant_id
       and time_hour >= :since
       and time_hour < :until
     group by tenant_id, day
    returning events
""")


@tenant_activity
@heartbeating()
async def aggregate_usage(request: AggregateUsage) -> UsageSummary:
    """Counts the month's usage by day and replaces any earlier counts, in one transaction.

    It is safe to repeat: a later run picks up late events and drops days that have none left.
    """
    tenant = current_tenant_record()
    since, until = local_month(request.period, tenant.time_zone)
    first, after = month_bounds(request.period)
    month = {"tenant_id": tenant.id, "first": first, "after": after}
    usage = {"tenant_id": tenant.id, "time_zone": tenant.time_zone, "since": since, "until": until}
    async with tenant_session(limits=LARGE) as session:
        await session.execute(_CLEAR, month)
        events = (await session.scalars(_FILL, usage)).all()
    return UsageSummary(period=request.period, days=len(events), events=sum(events))

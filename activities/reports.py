"""Daily reports: a summary of a day's usage, stored as a document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from activities.days import Day, past_day
from activities.limits import LARGE
from activities.search import ask_for_index
from saas.database import audit
from saas.database.tables import Document
from temporal_tenancy import current_tenant_record, heartbeating, tenant_activity, tenant_session
from temporal_tenancy.core import days_from

KIND: Final = "report.daily"
ROUTES: Final = 5  # per report


class MakeDailyReport(BaseModel):
    """Input of `make_daily_report`: the day to report on."""

    period: Day


class Route(BaseModel):
    """The number of a day's events on a route."""

    origin: str
    destination: str
    events: int


class DailyReport(BaseModel):
    """A summary of a day's usage. Delays are in minutes, of the flights that departed."""

    period: str
    events: int
    cancelled: int
    mean_delay: float | None  # None: no delay is known
    most_delay: int | None
    busiest_routes: list[Route]  # the busiest first
    made: bool  # False: the report existed before


_USAGE: Final = text("""
    with usage as (
        select origin, destination, cancelled, departure_delay
          from usage_events
         where tenant_id = :tenant_id
           and time_hour >= :since
           and time_hour < :until
    ),
    busiest as (
        select origin, destination, count(*) as events
          from usage
         group by origin, destination
         order by events desc, origin, destination
         limit :routes
    )
    select count(*) as events,
           count(*) filter (where cancelled) as cancelled,
           cast(round(avg(departure_delay), 1) as double precision) as mean_delay,
           max(departure_delay) as most_delay,
           (
               select coalesce(
                   jsonb_agg(to_jsonb(busiest) order by events desc, origin, destination), '[]'
               )
                 from busiest
           ) as busiest_routes
      from usage
""")


@tenant_activity
@heartbeating()
async def make_daily_report(request: MakeDailyReport) -> DailyReport:
    """Makes the report on a day in the tenant's time zone and stores it as a document, once.

    The document is kept for as long as the plan keeps usage. Returns the stored report, whether it
    is new or existed before. Raises `DayNotOver` before the end of the day.
    """
    tenant = current_tenant_record()
    since, until = past_day(request.period, tenant.time_zone)
    usage = {"tenant_id": tenant.id, "since": since, "until": until, "routes": ROUTES}
    async with tenant_session(limits=LARGE) as session:
        content: dict[str, Any] = dict((await session.execute(_USAGE, usage)).mappings().one())
        made = await session.scalar(
            insert(Document)
            .values(
                kind=KIND,
                key=request.period,
                content=content,
                expires_at=_expiry(tenant.plan.retention_days),
            )
            .on_conflict_do_nothing()
            .returning(Document.key)
        )
        if made is not None:
            await audit.record(session, "report.made", request.period, events=content["events"])
            made_at = datetime.now(UTC).isoformat()  # it may be made again once it has expired
            await ask_for_index("document", f"{KIND}/{request.period}", version=made_at)
        kept = await session.scalar(
            select(Document.content).where(Document.kind == KIND, Document.key == request.period)
        )
    return DailyReport(period=request.period, made=made is not None, **(kept or content))


def _expiry(retention_days: int | None) -> datetime | None:
    return None if retention_days is None else days_from(datetime.now(UTC), retention_days)

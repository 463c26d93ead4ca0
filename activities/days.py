"""Days in a tenant's own time zone."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from activities.refusals import refuse_before
from saas.periods import Day as Day  # for jobs, beside what computes with it
from saas.refusals import Refused


class DayNotOver(Refused):
    """The requested day is not over yet."""


def local_day(period: str, time_zone: str) -> tuple[datetime, datetime]:
    """Returns the first instant of a day in `time_zone` (an IANA name), and the first after it.

    They are 23 or 25 hours apart when the clocks change. If they change at midnight the day begins
    with the change; of a midnight that occurs twice, the first one counts.
    """
    zone = ZoneInfo(time_zone)
    day = date.fromisoformat(period)
    return datetime.combine(day, time(), zone), datetime.combine(
        day + timedelta(days=1), time(), zone
    )


def past_day(period: str, time_zone: str) -> tuple[datetime, datetime]:
    """Like `local_day`, but raises `DayNotOver` while the day may still get events."""
    since, until = local_day(period, time_zone)
    refuse_before(until, period, time_zone, DayNotOver)
    return since, until

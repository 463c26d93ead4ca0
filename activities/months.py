"""Months in a tenant's own time zone."""

from __future__ import annotations

from datetime import datetime, time
from zoneinfo import ZoneInfo

from activities.refusals import refuse_before
from saas.periods import Month as Month  # for jobs, beside what computes with it
from saas.refusals import Refused
from temporal_tenancy.core import month_bounds


class MonthNotOver(Refused):
    """The requested month is not over yet."""


def local_month(period: str, time_zone: str) -> tuple[datetime, datetime]:
    """Returns the first instant of a month in `time_zone` (an IANA name) and of the next one."""
    zone = ZoneInfo(time_zone)
    first, after = month_bounds(period)
    return datetime.combine(first, time(), zone), datetime.combine(after, time(), zone)


def past_month(period: str, time_zone: str) -> tuple[datetime, datetime]:
    """Like `local_month`, but raises `MonthNotOver` while the month may still get events."""
    since, until = local_month(period, time_zone)
    refuse_before(until, period, time_zone, MonthNotOver)
    return since, until

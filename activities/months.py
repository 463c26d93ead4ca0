"""Months in a tenant's own time zone."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from activities.refusals import Refused, refuse_before
from temporal_tenancy import Period
from temporal_tenancy.core import month_bounds


class MonthNotOver(Refused):
    """The requested month is not over yet."""


Month = Annotated[str, AfterValidator(Period.MONTH.checked)]
"""A month, written `YYYY-MM`."""


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

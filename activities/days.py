"""Days in a tenant's own time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator
from temporalio.exceptions import ApplicationError

from temporal_tenancy.periods import Period


class DayNotOver(ApplicationError):
    """The day that was asked for is not over yet."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


def _day(value: str) -> str:
    if not Period.DAY.is_key(value):
        raise ValueError("a period is a day, written YYYY-MM-DD")
    return value


Day = Annotated[str, AfterValidator(_day)]
"""A day, written `YYYY-MM-DD`."""


def local_day(period: str, time_zone: str) -> tuple[datetime, datetime]:
    """The first instant of a day in `time_zone` (an IANA name), and the first after it.

    They are 23 or 25 hours apart where the clocks change. Where they change at midnight the day
    begins with the change, and a midnight that comes twice is the first of the two.
    """
    zone = ZoneInfo(time_zone)
    day = date.fromisoformat(period)
    return datetime.combine(day, time(), zone), datetime.combine(
        day + timedelta(days=1), time(), zone
    )


def past_day(period: str, time_zone: str) -> tuple[datetime, datetime]:
    """As `local_day`; raises `DayNotOver` while the day may still get events.

    What is counted once must not be counted too early.
    """
    since, until = local_day(period, time_zone)
    if until > datetime.now(UTC):
        end = until.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
        raise DayNotOver(f"{period} is not over in {time_zone}. Run it after {end}.")
    return since, until

"""Days and months as fields of inputs, and when they are over in a time zone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from temporal_tenancy import Period

Day = Annotated[str, AfterValidator(Period.DAY.checked)]
"""A day, written `YYYY-MM-DD`."""

Month = Annotated[str, AfterValidator(Period.MONTH.checked)]
"""A month, written `YYYY-MM`."""


def last_period(period: Period, time_zone: str) -> str:
    """Returns the key of the last whole period before now in `time_zone` (an IANA name)."""
    return period.key_before(datetime.now(ZoneInfo(time_zone)))


def end_of(period: Period, key: str, time_zone: str) -> datetime:
    """Returns the first instant after the period `key` in `time_zone` (an IANA name)."""
    end, _ = period.due_between(key)
    return end.replace(tzinfo=ZoneInfo(time_zone))

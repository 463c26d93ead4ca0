"""Instants that both Python and PostgreSQL can represent in every time zone.

Python's calendar ends with the year 9999 and PostgreSQL's much later, and an offset can move a time
past that end. So times from outside are checked after they have been converted to UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime

FURTHEST: Final = timedelta(hours=40)
"""More than the offset of any zone from UTC, including the day that Samoa skipped in 2011."""

FIRST: Final = datetime.min.replace(tzinfo=UTC) + FURTHEST
LAST: Final = datetime.max.replace(tzinfo=UTC) - FURTHEST


def in_utc(moment: datetime) -> datetime:
    """Converts an aware time to UTC.

    Raises:
        ValueError: the time has no offset, or lies so close to an end of the calendar that it has
            no date in some time zone. The message is a sentence for users.
    """
    if moment.utcoffset() is None:
        raise ValueError("a time needs an offset, as in 2026-12-24T18:00:00Z")
    try:
        converted = moment.astimezone(UTC)
    except OverflowError:
        converted = None
    if converted is None or not FIRST <= converted <= LAST:
        raise ValueError(f"a time must be between {FIRST.date()} and {LAST.date()}")
    return converted


def days_from(moment: datetime, days: int) -> datetime:
    """Returns the aware `moment` moved by `days`, limited to the ends of the calendar.

    So a retention of two billion days ends where the calendar ends.
    """
    ahead, behind = (LAST - moment).days, (moment - FIRST).days
    return moment + timedelta(days=max(-behind, min(ahead, days)))


Instant = Annotated[AwareDatetime, AfterValidator(in_utc)]
"""A time with an offset, converted to UTC: the type of a time in a job's input."""
"""A pydantic field type: an aware time, converted to UTC, that every part can represent."""

"""Instants that Python and PostgreSQL both hold, in every time zone.

Python's calendar ends with the year 9999, PostgreSQL's much later, and an offset moves a time over
that end: what comes from outside is looked at after it has been converted to UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime

FURTHEST: Final = timedelta(hours=40)
"""Further than any zone has ever been from UTC, with the day that Samoa left out."""

FIRST: Final = datetime.min.replace(tzinfo=UTC) + FURTHEST
LAST: Final = datetime.max.replace(tzinfo=UTC) - FURTHEST


def in_utc(moment: datetime) -> datetime:
    """Converts an aware time to UTC.

    Raises `ValueError`, with a sentence for whoever gave it, where it has no offset or lies so near
    the calendar's ends that it has no date in some time zone.
    """
    if moment.utcoffset() is None:
        raise ValueError("a time needs an offset, as in 2026-12-24T18:00:00Z")
    try:
        converted = moment.astimezone(UTC)
    except OverflowError:
        converted = None
    if converted is None or not FIRST <= converted <= LAST:
        raise ValueError(f"a time lies between {FIRST.date()} and {LAST.date()}")
    return converted


def days_from(moment: datetime, days: int) -> datetime:
    """The aware `moment` moved by so many days, but not past either end of the calendar.

    "Kept for two billion days" is kept until the end.
    """
    ahead, behind = (LAST - moment).days, (moment - FIRST).days
    return moment + timedelta(days=max(-behind, min(ahead, days)))


Instant = Annotated[AwareDatetime, AfterValidator(in_utc)]
"""A pydantic field type: an aware time, converted to UTC, that every part can hold."""

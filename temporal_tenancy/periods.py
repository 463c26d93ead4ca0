"""The period that a scheduled job works on, named by its key and counted from a nominal time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from temporal_tenancy.instants import FIRST, LAST


class Period(StrEnum):
    """How long a stretch of time one run of a job is about."""

    MONTH = "month"  # key 2013-04; due in the month after
    DAY = "day"  # key 2013-04-30; due on the day after

    def key_before(self, nominal: datetime) -> str:
        """The key of the last whole period before `nominal` (aware; in the zone of the period).

        A monthly job that is due on 2013-05-01 works on 2013-04.
        """
        if self is Period.MONTH:
            return (nominal.replace(day=1) - timedelta(days=1)).date().isoformat()[:7]
        return (nominal - timedelta(days=1)).date().isoformat()

    def due_between(self, key: str) -> tuple[datetime, datetime]:
        """From when to when a run about the period `key` may be due: the whole period behind it.

        Both naive, in the zone of the period; the second is no longer in it.
        """
        if self is Period.MONTH:
            _, first = month_bounds(key)
            last = (first + timedelta(days=31)).replace(day=1)
        else:
            first = date.fromisoformat(key) + timedelta(days=1)
            last = first + timedelta(days=1)
        return datetime.combine(first, time()), datetime.combine(last, time())

    def is_key(self, key: str) -> bool:
        """Whether `key` names a period of this kind that Python's calendar has everywhere."""
        if not _PATTERNS[self].fullmatch(key):
            return False
        try:
            start = datetime.fromisoformat(key if self is Period.DAY else f"{key}-01")
            _, end = self.due_between(key)
        except (ValueError, OverflowError):
            return False
        # Both ends are instants, and a date, in every time zone.
        return start.replace(tzinfo=UTC) > FIRST and end.replace(tzinfo=UTC) < LAST

    def key_now(self) -> str:
        """The key of the last whole period before this moment, in UTC."""
        return self.key_before(datetime.now(UTC))


_PATTERNS: Final = {
    Period.MONTH: re.compile(r"[0-9]{4}-[0-9]{2}"),
    Period.DAY: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
}


def month_bounds(key: str) -> tuple[date, date]:
    """The first day of the month `key` (`YYYY-MM`) and the first day of the next."""
    first = date.fromisoformat(f"{key}-01")
    return first, (first + timedelta(days=31)).replace(day=1)

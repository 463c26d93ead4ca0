"""The period that a scheduled job works on, named by its key and counted from a nominal time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final


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
        try:
            self.checked(key)
        except ValueError:
            return False
        return True

    def checked(self, key: str) -> str:
        """`key`, as `is_key` has it; raises `ValueError`, with a sentence for whoever gave it."""
        if not _PATTERNS[self].fullmatch(key):
            raise ValueError(f"a period is a {self}, written {_WRITTEN[self]}")
        first, last = _ENDS[self]
        if not first <= key <= last:
            raise ValueError(f"a period lies between {first} and {last}")
        try:
            date.fromisoformat(key if self is Period.DAY else f"{key}-01")
        except ValueError:
            raise ValueError(f"the calendar has no such {self}") from None
        return key

    def key_now(self) -> str:
        """The key of the last whole period before this moment, in UTC."""
        return self.key_before(datetime.now(UTC))


_PATTERNS: Final = {
    Period.MONTH: re.compile(r"[0-9]{4}-[0-9]{2}"),
    Period.DAY: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
}
_WRITTEN: Final = {Period.MONTH: "YYYY-MM", Period.DAY: "YYYY-MM-DD"}
_ENDS: Final = {
    Period.MONTH: ("0001-02", "9999-10"),
    Period.DAY: ("0001-01-03", "9999-12-28"),
}
"""The first and the last key whose period, and the one in which it is due, lie between `FIRST` and
`LAST`: both ends of each are instants, and dates, in every time zone."""


def month_bounds(key: str) -> tuple[date, date]:
    """The first day of the month `key` (`YYYY-MM`) and the first day of the next."""
    first = date.fromisoformat(f"{key}-01")
    return first, (first + timedelta(days=31)).replace(day=1)

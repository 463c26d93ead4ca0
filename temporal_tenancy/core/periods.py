"""The period of time that one run of a scheduled job covers, and its key."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from temporal_tenancy.core.spelling import SpelledEnum


class Period(StrEnum, metaclass=SpelledEnum):
    """The length of time that one run of a job covers."""

    MONTH = "month"  # key 2013-04; due in the next month
    DAY = "day"  # key 2013-04-30; due on the next day

    def key_before(self, nominal: datetime) -> str:
        """Returns the key of the last whole period before `nominal`.

        A monthly job that is due on 2013-05-01 covers 2013-04.

        Args:
            nominal: the time at which the job is due, in the period's own time zone.
        """
        if self is Period.MONTH:
            return (nominal.replace(day=1) - timedelta(days=1)).date().isoformat()[:7]
        return (nominal - timedelta(days=1)).date().isoformat()

    def due_between(self, key: str) -> tuple[datetime, datetime]:
        """Returns when a run for the period `key` can be due: during the whole next period.

        Returns:
            The start (inclusive) and the end (exclusive), both naive in the period's time zone.
        """
        if self is Period.MONTH:
            _, first = month_bounds(key)
            last = (first + timedelta(days=31)).replace(day=1)
        else:
            first = date.fromisoformat(key) + timedelta(days=1)
            last = first + timedelta(days=1)
        return datetime.combine(first, time()), datetime.combine(last, time())

    def is_key(self, key: str) -> bool:
        """Returns whether `key` names a period of this length that exists in every time zone."""
        try:
            self.checked(key)
        except ValueError:
            return False
        return True

    def checked(self, key: str) -> str:
        """Returns `key` if `is_key` accepts it.

        Raises:
            ValueError: it does not. The message is a sentence for users.
        """
        if not _PATTERNS[self].fullmatch(key):
            raise ValueError(f"a period is a {self}, written {_WRITTEN[self]}")
        first, last = _ENDS[self]
        if not first <= key <= last:
            raise ValueError(f"a period must be between {first} and {last}")
        try:
            date.fromisoformat(key if self is Period.DAY else f"{key}-01")
        except ValueError:
            raise ValueError(f"the calendar has no such {self}") from None
        return key

    def key_now(self) -> str:
        """Returns the key of the last whole period before now, in UTC."""
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
"""The first and last valid key. Its period and the next one, in which it is due, lie between
`instants.FIRST` and `instants.LAST`, so their ends are valid instants and dates in every zone."""


def month_bounds(key: str) -> tuple[date, date]:
    """Returns the first day of the month `key` (`YYYY-MM`) and the first day of the next month."""
    first = date.fromisoformat(f"{key}-01")
    return first, (first + timedelta(days=31)).replace(day=1)

"""Cron lines and their parser, the only one in the project.

Temporal receives the parsed calendar and never the line itself, so that a line means the same in a
check, a preview, a backfill and on the server.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.display import quoted
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.periods import Period

if TYPE_CHECKING:
    from temporalio.client import ScheduleCalendarSpec, ScheduleRange

_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_WEEKDAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

_PART: Final = re.compile(
    r"(?:(?P<all>\*)|(?P<first>[0-9]{1,3}|[a-z]{3})(?:-(?P<last>[0-9]{1,3}|[a-z]{3}))?)"
    r"(?:/(?P<step>[0-9]{1,3}))?"
)
_LEAP_YEARS: Final = timedelta(days=8 * 366)
"""At least the time from one 29 February to the next, which is eight years around 2100."""


class CronInvalid(TenancyError):
    """A cron line cannot be parsed, or different cron parsers would read it differently."""


@dataclass(frozen=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: Sequence[str] = ()  # of the values, from the lowest up
    alias: int | None = None  # a second number for the lowest

    @property
    def all(self) -> frozenset[int]:
        return frozenset(range(self.lowest, self.highest + 1))


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, _WEEKDAYS, alias=7),
)


@dataclass(frozen=True)
class CronLine:
    """A parsed cron line: the values that each of its five fields matches. Sunday is 0."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]  # of the month
    months: frozenset[int]
    weekdays: frozenset[int]

    def times(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yields the times from `since` until before `until`, in order.

        Both arguments are aware, in a zone without clock changes such as UTC, or both are naive.
        The times are of the same kind.
        """
        hours, minutes = sorted(self.hours), sorted(self.minutes)
        for day in self._days(since.date(), until.date()):
            for hour in hours:
                for minute in minutes:
                    moment = datetime.combine(day, time(hour, minute, tzinfo=since.tzinfo))
                    if since <= moment < until:
                        yield moment

    def matches(self, moment: datetime) -> bool:
        """Returns whether the line matches the minute of `moment`, in the time zone of `moment`."""
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and self._is_day(moment.date())
        )

    def calendar(self) -> ScheduleCalendarSpec:
        """Returns the line as a Temporal calendar, with the text of the line as its comment."""
        # Imported here: due times are computed without the SDK's client, which loads slowly.
        from temporalio.client import ScheduleCalendarSpec

        return ScheduleCalendarSpec(
            minute=_ranges(self.minutes),
            hour=_ranges(self.hours),
            day_of_month=_ranges(self.days),
            month=_ranges(self.months),
            day_of_week=_ranges(self.weekdays),
            comment=self.text,
        )

    def is_calendar(self, calendar: ScheduleCalendarSpec) -> bool:
        """Returns whether a calendar from the server matches the same times."""
        return not calendar.year and all(
            _values(ranges) == values
            for ranges, values in (
                (calendar.second, {0}),
                (calendar.minute, self.minutes),
                (calendar.hour, self.hours),
                (calendar.day_of_month, self.days),
                (calendar.month, self.months),
                (calendar.day_of_week, self.weekdays),
            )
        )

    def fires_again_in(self, period: Period) -> bool:
        """Returns whether the line is due more than once per period; later runs find no work."""
        if len(self.minutes) * len(self.hours) > 1:
            return True
        if period is Period.DAY:
            return False
        months = [(day.year, day.month) for day in self._days(*_SOME_YEARS)]
        return len(months) > len(set(months))

    def _days(self, first: date, last: date) -> Iterator[date]:
        for number in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(number)
            if self._is_day(day):
                yield day

    def _is_day(self, day: date) -> bool:
        return (
            day.month in self.months
            and day.day in self.days
            and day.isoweekday() % 7 in self.weekdays
        )


_SOME_YEARS: Final = (date(2096, 1, 1), date(2096, 1, 1) + _LEAP_YEARS)


@lru_cache
def read_cron(text: str) -> CronLine:
    """Parses a cron line of five fields: minute, hour, day of the month, month, day of the week.

    A field is `*`, a number or a range `a-b`, each optionally with a step `/n`, or a list of these
    with commas. Months and days of the week can also be English names of three letters; Sunday is
    0 or 7.

    Raises:
        CronInvalid: the line does not have this form; it restricts both the day of the month and
            the day of the week, which cron combines with OR and Temporal with AND; or no date
            matches it.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise CronInvalid(
            f"the cron line {quoted(text)} does not have five fields, as in "
            '"0 6 1 * *": minute, hour, day of the month, month, day of the week.'
        )
    minutes, hours, days, months, weekdays = (
        _read(field, value, text) for field, value in zip(_FIELDS, fields, strict=True)
    )
    weekdays = frozenset(day % 7 for day in weekdays)
    if days != _FIELDS[2].all and len(weekdays) < 7:
        raise CronInvalid(
            f"the cron line {quoted(text)} restricts the day of the month and the day of the "
            "week: some cron parsers require either, others both. Restrict one, and check the "
            "other in the job."
        )
    line = CronLine(" ".join(fields), minutes, hours, days, months, weekdays)
    if next(line._days(*_SOME_YEARS), None) is None:
        raise CronInvalid(
            f"the cron line {quoted(text)} is never due, because no month has that day."
        )
    return line


def _read(field: _Field, text: str, line: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.lower())
        if match is None:
            raise CronInvalid(
                f"the cron line {quoted(line)} has {quoted(part)} for the {field.name}. Use *, "
                "a number, a range a-b, a step /n, or a list of these with commas."
            )
        if match["all"]:
            first, last = field.lowest, field.highest
        else:
            first = _value(field, match["first"], line)
            if match["last"] is not None:
                last = _value(field, match["last"], line)
            else:
                last = max(first, field.highest) if match["step"] else first
        step = int(match["step"] or 1)
        if step == 0 or last < first:
            raise CronInvalid(
                f"the cron line {quoted(line)} has {quoted(part)} for the {field.name}, which "
                "is empty. Write a range from the lower to the higher value, and a step of 1 or "
                "more."
            )
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _value(field: _Field, text: str, line: str) -> int:
    if text in field.names:
        return field.lowest + field.names.index(text)
    if text.isdigit() and (int(text) in field.all or int(text) == field.alias):
        return int(text)
    raise CronInvalid(
        f"the cron line {quoted(line)} has {quoted(text)} for the {field.name}, which goes from "
        f"{field.lowest} to {field.highest}."
    )


def _ranges(values: frozenset[int]) -> Sequence[ScheduleRange]:
    """Returns the values as few ranges, or as one with a step if they are evenly spaced."""
    from temporalio.client import ScheduleRange

    ordered = sorted(values)
    steps = {after - before for before, after in itertools.pairwise(ordered)}
    if len(steps) <= 1:
        return (ScheduleRange(ordered[0], ordered[-1], *steps),)
    runs: list[list[int]] = []
    for value in ordered:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return tuple(ScheduleRange(run[0], run[-1]) for run in runs)


def _values(ranges: Sequence[ScheduleRange]) -> set[int]:
    return {
        value
        for part in ranges
        for value in range(part.start, max(part.end, part.start) + 1, part.step or 1)
    }

"""When a tenant is due: local time across every clock change, and the spread."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from temporal_tenancy.core.due_times import (
    SPREAD_STEPS,
    TimeZoneUnknown,
    due_between,
    due_of_key,
    instant,
    spread_offset,
    times,
    zone_of,
)
from temporal_tenancy.core.periods import Period

STEP = timedelta(minutes=15)
EIGHT = "0 8 * * *"


def at(text: str) -> datetime:
    """A time on a wall clock."""
    return datetime.fromisoformat(text)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(zone: str, cron: str, since: str, until: str) -> list[tuple[str, str]]:
    """Returns a tenant's key and instant while the schedule steps from one time to another."""
    found = []
    moment = utc(since)
    while moment < utc(until):
        # All 600 zones would take minutes.
        due = due_between(cron, Period.DAY, moment, moment + STEP, zones=[zone])
        for key, zones in due.items():
            if zone in zones:
                found.append((key, f"{zones[zone]:%m-%d %H:%M}"))
        moment += STEP
    return found


@pytest.mark.parametrize(
    ("zone", "since", "until", "expected"),
    [
        # Daylight saving begins on 10 March and ends on 3 November.
        ("America/New_York", "2013-03-09", "2013-03-12",
         [("2013-03-08", "03-09 13:00"), ("2013-03-09", "03-10 12:00"),
          ("2013-03-10", "03-11 12:00")]),
        ("America/New_York", "2013-11-02", "2013-11-05",
         [("2013-11-01", "11-02 12:00"), ("2013-11-02", "11-03 13:00"),
          ("2013-11-03", "11-04 13:00")]),
        # A daylight saving of half an hour, and a zone at three quarters of an hour.
        ("Australia/Lord_Howe", "2024-04-05T12:00", "2024-04-07T12:00",
         [("2024-04-05", "04-05 21:00"), ("2024-04-06", "04-06 21:30")]),
        ("Asia/Kathmandu", "2024-04-05", "2024-04-06", [("2024-04-04", "04-05 02:15")]),
        # Turkey stayed on summer time permanently in 2016: no change at the end of October.
        ("Europe/Istanbul", "2015-11-07", "2015-11-10",
         [("2015-11-06", "11-07 05:00"), ("2015-11-07", "11-08 06:00"),
          ("2015-11-08", "11-09 06:00")]),
        ("Europe/Istanbul", "2016-11-05", "2016-11-07",
         [("2016-11-04", "11-05 05:00"), ("2016-11-05", "11-06 05:00")]),
        # Samoa crossed the date line: it had no 30 December 2011.
        ("Pacific/Apia", "2011-12-29", "2012-01-01",
         [("2011-12-28", "12-29 18:00"), ("2011-12-29", "12-30 18:00"),
          ("2011-12-30", "12-30 18:00"), ("2011-12-31", "12-31 18:00")]),
    ],
)  # fmt: skip
def test_each_local_day_has_one_run_at_its_local_time(
    zone: str, since: str, until: str, expected: list[tuple[str, str]]
) -> None:
    assert runs(zone, EIGHT, since, until) == expected


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"])
def test_no_day_of_ten_years_is_left_out_or_run_twice(zone: str) -> None:
    first = datetime.fromisoformat("2013-01-02")
    counted = Counter(
        Period.DAY.key_before(local) for local in times(EIGHT, first, first + timedelta(days=3650))
    )
    instants = [instant(local, ZoneInfo(zone)) for local in
                times(EIGHT, first, first + timedelta(days=3650))]  # fmt: skip
    assert set(counted.values()) == {1}
    assert len(set(instants)) == 3650
    assert all(i.astimezone(ZoneInfo(zone)).hour == 8 for i in instants)


def test_a_time_that_the_clock_leaves_out_or_shows_twice_is_run_once() -> None:
    zone = "America/New_York"
    assert runs(zone, "30 2 * * *", "2013-03-10", "2013-03-11") == [("2013-03-09", "03-10 07:30")]
    assert runs(zone, "30 1 * * *", "2013-11-03", "2013-11-04") == [("2013-11-02", "11-03 05:30")]


def test_two_dates_at_once_are_two_keys() -> None:
    moment = utc("2026-11-22T18:00")
    found = due_between(EIGHT, Period.DAY, moment, moment + STEP)
    assert sorted(found) == ["2026-11-21", "2026-11-22"]
    assert "Pacific/Kiritimati" in found["2026-11-22"]
    assert "Pacific/Honolulu" in found["2026-11-21"]


@pytest.mark.parametrize(
    ("period", "cron", "key", "local"),
    [
        (Period.DAY, EIGHT, "2013-04-30", at("2013-05-01T08:00")),
        (Period.DAY, EIGHT, "2012-12-31", at("2013-01-01T08:00")),
        (Period.MONTH, "0 6 1 * *", "2013-12", at("2014-01-01T06:00")),
        (Period.DAY, "0 8 * * 1", "2013-04-28", at("2013-04-29T08:00")),  # a Sunday, on Monday
        (Period.DAY, "0 8 * * 1", "2013-04-29", None),
    ],
)
def test_a_key_tells_when_its_run_is_due(
    period: Period, cron: str, key: str, local: datetime | None
) -> None:
    assert due_of_key(cron, period, key) == local
    if local is not None:
        assert period.key_before(local) == key


def test_times_begin_at_the_first_and_end_before_the_last() -> None:
    found = times("0 6 1 * *", utc("2013-02-01T06:00"), utc("2013-04-01T06:00"))
    assert list(found) == [utc("2013-02-01T06:00"), utc("2013-03-01T06:00")]


def test_a_tenant_has_the_same_place_in_a_window_every_time_and_another_in_another_job() -> None:
    window = timedelta(hours=1)
    once = [spread_offset(f"t{n}", "billing.cycle", window) for n in range(100)]
    again = [spread_offset(f"t{n}", "billing.cycle", window) for n in range(100)]
    other = [spread_offset(f"t{n}", "report.daily", window) for n in range(100)]
    assert once == again
    assert once != other
    assert spread_offset("t1", "billing.cycle", timedelta()) == timedelta()


def test_starts_are_spread_evenly_and_at_a_bounded_number_of_times() -> None:
    window = timedelta(hours=2)
    offsets = [spread_offset(f"tenant-{n}", "billing.cycle", window) for n in range(36_000)]
    assert timedelta() <= min(offsets) <= max(offsets) < window
    assert len(set(offsets)) == SPREAD_STEPS
    by_tenth = Counter(int(offset / window * 10) for offset in offsets)
    assert max(by_tenth.values()) / min(by_tenth.values()) < 1.1


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "America"])
def test_a_time_zone_there_is_not_is_said_in_a_sentence(name: str) -> None:
    with pytest.raises(TimeZoneUnknown, match="there is no time zone"):
        zone_of(name)

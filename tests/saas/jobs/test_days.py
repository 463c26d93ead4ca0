"""Days in a tenant's own time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from activities.days import Day, DayNotOver, local_day, past_day

DAY = TypeAdapter[str](Day)
ZONES = ["America/New_York", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "UTC"]


@pytest.mark.parametrize("given", ["2013-03-10", "2024-02-29"])
def test_a_day_is_written_as_its_date(given: str) -> None:
    assert DAY.validate_python(given) == given


@pytest.mark.parametrize(
    "given", ["2013-3-10", "2013-02-29", "2013-13-01", "20130310", "2013-03", "today", ""]
)
def test_what_is_no_day_is_refused(given: str) -> None:
    with pytest.raises(
        ValidationError, match=r"a period is a day, written|the calendar has no such day"
    ):
        DAY.validate_python(given)


@pytest.mark.parametrize(
    ("period", "zone", "since", "hours"),
    [
        ("2013-03-09", "America/New_York", "2013-03-09T05:00:00Z", 24),
        ("2013-03-10", "America/New_York", "2013-03-10T05:00:00Z", 23),
        ("2013-11-03", "America/New_York", "2013-11-03T04:00:00Z", 25),
        ("2013-12-31", "UTC", "2013-12-31T00:00:00Z", 24),
        ("2024-02-29", "Asia/Kolkata", "2024-02-28T18:30:00Z", 24),
        ("2013-10-20", "America/Sao_Paulo", "2013-10-20T03:00:00Z", 23),  # has no midnight
        ("2013-11-03", "America/Havana", "2013-11-03T04:00:00Z", 25),  # has two
        ("2013-10-06", "Australia/Lord_Howe", "2013-10-05T13:30:00Z", 23.5),
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00Z", 0),  # was skipped
    ],
)
def test_a_local_day_follows_the_zones_own_clock_changes(
    period: str, zone: str, since: str, hours: float
) -> None:
    first, after = (moment.astimezone(UTC) for moment in local_day(period, zone))
    assert first == datetime.fromisoformat(since)
    assert after - first == timedelta(hours=hours)


@given(st.dates(date(1971, 1, 1), date(2100, 1, 1)), st.sampled_from(ZONES))
def test_a_local_day_ends_where_the_next_begins(day: date, zone: str) -> None:
    since, until = local_day(day.isoformat(), zone)
    assert local_day((day + timedelta(days=1)).isoformat(), zone)[0] == until
    assert since.astimezone(UTC) <= until.astimezone(UTC)


def test_a_day_that_is_not_over_where_the_tenant_is_is_refused() -> None:
    # It is always today's date, and yesterday's too, somewhere on earth.
    east = datetime.now(ZoneInfo("Pacific/Kiritimati")).date()
    assert past_day((east - timedelta(days=1)).isoformat(), "Pacific/Kiritimati")
    with pytest.raises(DayNotOver, match=r"is not over in Etc/GMT\+12. Run it after 20"):
        past_day((east - timedelta(days=1)).isoformat(), "Etc/GMT+12")

"""Times from outside: accepted if every part of the system can hold them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from temporal_tenancy.core.due_times import TimeZoneUnknown, instant, zone_names, zone_of
from temporal_tenancy.core.instants import FIRST, LAST, Instant, days_from, in_utc
from temporal_tenancy.core.periods import Period

NOW = datetime(2026, 11, 27, tzinfo=UTC)
FARTHEST = [ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Pago_Pago"), ZoneInfo("UTC")]
offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))


@given(st.datetimes(), offsets.map(lambda offset: timezone(offset)))
def test_any_time_is_refused_with_a_sentence_or_has_a_date_everywhere(
    naive: datetime, offset: timezone
) -> None:
    given = naive.replace(tzinfo=offset)
    try:
        moment = in_utc(given)
    except ValueError as error:
        refused = str(error)
    else:
        assert moment == given
        assert all(date.min <= moment.astimezone(zone).date() for zone in FARTHEST)
        return
    assert refused == "a time must be between 0001-01-02 and 9999-12-30"


@pytest.mark.parametrize(
    "given",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-05:00", "9999-12-31T00:00:00Z"],
)
def test_the_ends_of_the_calendar_are_no_instants(given: str) -> None:
    with pytest.raises(ValidationError, match="a time must be between"):
        TypeAdapter(Instant).validate_python(given)


@given(
    st.text("0123456789-", max_size=12) | st.dates().map(str) | st.dates().map(lambda d: str(d)[:7])
)
def test_every_key_of_a_period_begins_and_ends_everywhere(text: str) -> None:
    for period in Period:
        if period.is_key(text):
            first, after = period.due_between(text)
            for zone in FARTHEST:
                assert instant(first, zone) < instant(after, zone)
            assert period.key_before(first) == text


@pytest.mark.parametrize(
    "key", ["9999-12", "9999-11", "0001-01", "9999-12-31", "0001-01-01", "２０１３-04", "2013-4"]
)
def test_what_no_calendar_has_whole_is_no_period(key: str) -> None:
    assert not any(period.is_key(key) for period in Period)


@pytest.mark.parametrize("days", [-(2**40), -1, 0, 1, 36_500, 2**31 - 1, 2**70])
def test_so_many_days_stay_in_the_calendar(days: int) -> None:
    moved = days_from(NOW, days)
    assert FIRST <= moved <= LAST
    assert abs(days) > 36_500 or moved == NOW + timedelta(days=days)


@pytest.mark.parametrize(
    "name",
    [
        "posix/Asia/Bangkok",
        "right/UTC",
        "localtime",
        "Factory",
        "asia/bangkok",
        "Asia",
        "../UTC",
        "",
    ],
)
def test_a_zone_that_not_every_part_knows_is_none(name: str) -> None:
    with pytest.raises(TimeZoneUnknown, match="there is no time zone"):
        zone_of(name)


def test_every_zone_that_is_taken_is_planned() -> None:
    assert {zone_of(name).key for name in zone_names()} == zone_names()
    assert {"UTC", "America/New_York", "Asia/Kathmandu"} <= zone_names()

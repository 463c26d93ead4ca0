"""Periods and their keys."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from temporal_tenancy.core.instants import FIRST, LAST
from temporal_tenancy.core.periods import Period, month_bounds


@pytest.mark.parametrize(
    ("period", "nominal", "key"),
    [
        (Period.MONTH, datetime(2013, 5, 1, 6, tzinfo=UTC), "2013-04"),
        (Period.MONTH, datetime(2013, 1, 1, 0, tzinfo=UTC), "2012-12"),
        (Period.MONTH, datetime(2024, 3, 31, 23, tzinfo=UTC), "2024-02"),
        (Period.DAY, datetime(2024, 3, 1, 8, tzinfo=UTC), "2024-02-29"),
        (Period.DAY, datetime(2013, 1, 1, 0, tzinfo=UTC), "2012-12-31"),
    ],
)
def test_the_period_worked_on_is_the_last_whole_one(
    period: Period, nominal: datetime, key: str
) -> None:
    assert period.key_before(nominal) == key


@given(
    st.datetimes(
        timezones=st.just(UTC),
        min_value=datetime(1900, 1, 2),  # noqa: DTZ001
        max_value=datetime(9999, 11, 30),  # noqa: DTZ001  # the month before it is the last valid
    )
)
def test_the_key_before_any_moment_names_a_period_that_is_over(moment: datetime) -> None:
    for period in Period:
        key = period.key_before(moment)
        assert period.is_key(key)
    _, after = month_bounds(Period.MONTH.key_before(moment))
    assert after <= moment.date()


@pytest.mark.parametrize("key", ["2013-13", "2013-00", "2013-4", "13-04", "2013-04-01", "x", ""])
def test_what_is_no_month_is_no_key_of_one(key: str) -> None:
    assert not Period.MONTH.is_key(key)


@pytest.mark.parametrize(
    ("period", "key", "sentence"),
    [
        (Period.MONTH, "2013-4", "a period is a month, written YYYY-MM"),
        (Period.MONTH, "10000-01", "a period is a month, written YYYY-MM"),
        (Period.MONTH, "2013-13", "the calendar has no such month"),
        (Period.MONTH, "2013-00", "the calendar has no such month"),
        (Period.MONTH, "9999-12", "a period must be between 0001-02 and 9999-10"),
        (Period.MONTH, "0000-05", "a period must be between 0001-02 and 9999-10"),
        (Period.DAY, "2013-04", "a period is a day, written YYYY-MM-DD"),
        (Period.DAY, "2013-02-30", "the calendar has no such day"),
        (Period.DAY, "2013-13-01", "the calendar has no such day"),
        (Period.DAY, "9999-12-31", "a period must be between 0001-01-03 and 9999-12-28"),
        (Period.DAY, "0000-01-01", "a period must be between 0001-01-03 and 9999-12-28"),
    ],
)
def test_what_is_no_period_is_told_why(period: Period, key: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        period.checked(key)


@given(st.dates() | st.dates(max_value=date(1, 3, 31)) | st.dates(min_value=date(9999, 9, 1)))
@example(date(1, 1, 2))
@example(date(1, 1, 3))
@example(date(9999, 12, 28))
@example(date(9999, 12, 29))
def test_a_period_is_one_where_all_of_it_and_of_the_next_are_instants(day: date) -> None:
    for period, key in ((Period.DAY, str(day)), (Period.MONTH, str(day)[:7])):
        try:
            start = datetime.fromisoformat(f"{key}-01"[:10]).replace(tzinfo=UTC)
            _, due = period.due_between(key)
            whole = start > FIRST and due.replace(tzinfo=UTC) < LAST
        except OverflowError:
            whole = False
        assert period.is_key(key) is whole


def test_a_month_ends_where_the_next_begins() -> None:
    assert month_bounds("2024-02") == (date(2024, 2, 1), date(2024, 3, 1))
    assert month_bounds("2013-12") == (date(2013, 12, 1), date(2014, 1, 1))

"""Periods and their keys."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_tenancy.periods import Period, month_bounds


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


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 2)))  # noqa: DTZ001
def test_the_key_before_any_moment_names_a_period_that_is_over(moment: datetime) -> None:
    for period in Period:
        key = period.key_before(moment)
        assert period.is_key(key)
    _, after = month_bounds(Period.MONTH.key_before(moment))
    assert after <= moment.date()


@pytest.mark.parametrize("key", ["2013-13", "2013-00", "2013-4", "13-04", "2013-04-01", "x", ""])
def test_what_is_no_month_is_no_key_of_one(key: str) -> None:
    assert not Period.MONTH.is_key(key)


def test_a_month_ends_where_the_next_begins() -> None:
    assert month_bounds("2024-02") == (date(2024, 2, 1), date(2024, 3, 1))
    assert month_bounds("2013-12") == (date(2013, 12, 1), date(2014, 1, 1))

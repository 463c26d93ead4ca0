"""Counts, lengths of time and moments, as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_tenancy.core.words import duration, minute, number, size_of, when


@pytest.mark.parametrize(
    ("count", "nouns", "said"),
    [
        (0, ("tenant",), "0 tenants"),
        (1, ("tenant",), "1 tenant"),
        (2, ("usage event",), "2 usage events"),
        (1, ("entry",), "1 entry"),
        (12_345, ("entry",), "12,345 entries"),
        (2, ("day",), "2 days"),
        (3, ("batch",), "3 batches"),
        (2, ("child", "children"), "2 children"),
        (1, ("child", "children"), "1 child"),
    ],
)
def test_a_count_has_its_noun(count: int, nouns: tuple[str, ...], said: str) -> None:
    assert number(count, *nouns) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0.4 s"),
        (2, "2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (45.3, "45 s"),
        (59.7, "1 min"),
        (90, "1 min 30 s"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (3_689, "1 h 1 min"),
        (86_399, "1 day"),
        (86_400, "1 day"),
        (90_000, "1 day 1 h"),
        (172_800, "2 days"),
        (31_536_000, "365 days"),
        (-200, "3 min 20 s"),
    ],
)
def test_a_length_of_time_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


IN_SECONDS = {"s": 1, "min": 60, "h": 3_600, "day": 86_400, "days": 86_400}


@given(st.floats(0, 1e9))
def test_a_length_of_time_is_never_far_from_what_is_said(seconds: float) -> None:
    words = duration(timedelta(seconds=seconds)).split()
    said = sum(
        float(count.replace(",", "")) * IN_SECONDS[unit]
        for count, unit in zip(words[::2], words[1::2], strict=True)
    )
    assert len(words) <= 4
    assert abs(said - seconds) <= max(0.051, seconds * 0.05)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 byte"),
        (1_023, "1,023 bytes"),
        (1_536, "1.5 KiB"),
        (5 * 1024**2, "5 MiB"),
        (1024**3, "1 GiB"),
    ],
)
def test_a_size_is_said_in_the_largest_unit_that_it_has(count: int, said: str) -> None:
    assert size_of(count) == said


def test_a_moment_is_said_in_utc_to_the_second_or_the_minute() -> None:
    moment = datetime(2026, 11, 27, 20, 25, 3, 123456, timezone(timedelta(hours=2)))
    assert when(moment) == "2026-11-27 18:25:03Z"
    assert minute(moment) == "2026-11-27 18:25Z"
    assert minute(datetime(2013, 5, 1, 6, tzinfo=UTC)) == "2013-05-01 06:00Z"

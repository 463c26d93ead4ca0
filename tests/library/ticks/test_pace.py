"""How fast a shard starts children."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from temporal_tenancy.ticks.fan_out._pace import Pace

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def starts(pace: Pace, count: int, *, each: float = 0.0) -> Iterator[float]:
    """Returns when so many starts happen, in seconds, if each takes `each` seconds."""
    now = BEGIN
    for _ in range(count):
        now = max(now, pace.next_start(now))
        yield (now - BEGIN).total_seconds()
        now += timedelta(seconds=each)


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [
        (2, [0, 0, 1, 1, 2]),
        (2.5, [0, 0, 1, 1, 2]),
        (0.5, [0, 2, 4, 6, 8]),
        (1, [0, 1, 2, 3, 4]),
    ],
)
def test_no_second_has_more_starts_than_allowed(per_second: float, expected: list[float]) -> None:
    assert list(starts(Pace(per_second, BEGIN, first=True), 5)) == expected


def test_a_later_shard_waits_a_round_for_the_one_before() -> None:
    assert list(starts(Pace(2, BEGIN, first=False), 3)) == [1, 1, 2]


def test_who_is_slower_anyway_does_not_wait() -> None:
    assert list(starts(Pace(2, BEGIN, first=True), 4, each=0.6)) == [0, 0.6, 1.2, 1.8]


def test_no_stretch_of_a_second_has_more_than_allowed_wherever_it_begins() -> None:
    found = list(starts(Pace(3, BEGIN, first=True), 30, each=0.31))
    assert all(later - earlier > 0.999 for earlier, later in zip(found, found[3:], strict=False))


def test_without_a_limit_nobody_waits() -> None:
    assert set(starts(Pace(None, BEGIN, first=False), 100)) == {0}

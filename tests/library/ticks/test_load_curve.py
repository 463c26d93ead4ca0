"""The load curve: which tenants start when, by the declared schedules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.testing import make_tenant
from temporal_tenancy.ticks.load_curve import LoadCurve, load_curves, total
from temporal_tenancy.ticks.schedules import ScheduledJob
from tests.fixtures.jobs import fan_out_jobs

SINCE = datetime(2026, 3, 8, tzinfo=UTC)  # New York's clock goes forward
JOB = "test.controlled_daily"
assert fan_out_jobs.WORKFLOWS


async def curve(scheduled: ScheduledJob, *tenants: Tenant, hours: int = 24) -> Sequence[int]:
    async def each() -> AsyncIterator[Tenant]:
        for tenant in tenants:
            yield tenant

    spread, _ = await load_curves([scheduled], each(), since=SINCE, length=timedelta(hours=hours))
    return total(spread)


def at(*moments: str) -> Sequence[int]:
    """Returns the buckets of times of day."""
    return [int(m[:2]) * 12 + int(m[3:]) // 5 for m in moments]


async def test_local_times_are_those_of_the_day() -> None:
    york = make_tenant("york", time_zone="America/New_York")
    kathmandu = make_tenant("kath", time_zone="Asia/Kathmandu")
    nowhere = make_tenant("nowhere", time_zone="Mars/Olympus")
    starts = await curve(ScheduledJob(JOB, "0 8 * * *", local_time=True), york, kathmandu, nowhere)
    assert [n for n, count in enumerate(starts) if count] == at("02:15", "12:00")


async def test_what_began_before_is_spread_into_it() -> None:
    tenants = [make_tenant(f"t{n}") for n in range(200)]
    starts = await curve(ScheduledJob(JOB, "0 23 * * *", spread=timedelta(hours=2)), *tenants)
    night = sum(starts[:12])
    assert 70 < night < 130  # of the day before
    assert sum(starts[12 : 23 * 12]) == 0
    assert sum(starts[23 * 12 :]) == 200 - night


async def test_who_may_not_run_does_not_count() -> None:
    tenants = [
        make_tenant("a", TenantStatus.SUSPENDED),
        make_tenant("b", TenantStatus.TRIAL),
        make_tenant("c"),
    ]
    assert sum(await curve(ScheduledJob(JOB, "0 8 * * *"), *tenants)) == 2
    trials = ScheduledJob(JOB, "0 8 * * *", statuses=[TenantStatus.TRIAL])
    assert sum(await curve(trials, *tenants)) == 1


@pytest.mark.parametrize(("cap", "expected"), [(None, [5, 0, 0]), (0.01, [3, 2, 0])])
def test_what_is_over_the_cap_is_left_for_the_next(
    cap: float | None, expected: Sequence[int]
) -> None:
    made = LoadCurve("x.y", SINCE, 3, cap)
    for _ in range(5):
        made.add(SINCE)
    assert made.starts() == expected


async def test_a_day_is_over_later_in_the_west() -> None:
    tenants = [make_tenant("utc"), make_tenant("angel", time_zone="America/Los_Angeles")]
    starts = await curve(ScheduledJob(JOB, "30 1 * * *"), *tenants)
    assert [n for n, count in enumerate(starts) if count] == at("01:30", "08:00")

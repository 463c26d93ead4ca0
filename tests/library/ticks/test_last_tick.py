"""A fan-out without a tick takes the last period that is over for every tenant."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from temporal_tenancy.cli._periods import last_tick
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.periods import Period
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from temporal_tenancy.ticks.fan_out import FanOutInput
from tests.fixtures.jobs import fan_out_jobs  # noqa: F401  # registers the jobs

JOBS: Final = {
    Period.DAY: registry["test.controlled_daily"],
    Period.MONTH: registry["test.controlled_monthly"],
}
# Every hour from UTC-11 to UTC+14, and a few with half hours or daylight saving.
ZONES: Final = (
    *(f"Etc/GMT{-offset:+}" if offset else "UTC" for offset in range(-11, 15)),
    *("America/New_York", "Asia/Kolkata", "Pacific/Chatham", "Europe/Berlin"),
)

FIRST: Final = datetime(2013, 1, 3, tzinfo=UTC)
DAYS: Final = 7000

moments = st.builds(
    lambda days, minutes: FIRST + timedelta(days=days, minutes=minutes),
    st.integers(0, DAYS),
    st.integers(0, 24 * 60 - 1),
)
early = st.builds(
    lambda days, minutes: FIRST + timedelta(days=days, minutes=minutes),
    st.integers(0, DAYS),
    st.integers(0, 5 * 60 - 1),
)


def is_over(period: Period, tick: str, zone: str, now: datetime) -> bool:
    end, _ = period.due_between(tick)
    return end.replace(tzinfo=ZoneInfo(zone)) <= now


def after(period: Period, tick: str) -> str:
    _, end = period.due_between(tick)  # of the next period
    return period.key_before(end)


@pytest.mark.parametrize("period", Period)
@given(now=early | moments, zones=st.sets(st.sampled_from(ZONES), min_size=1, max_size=5))
@example(now=datetime(2026, 11, 28, 4, 30, tzinfo=UTC), zones={"America/New_York"})
@example(now=datetime(2026, 12, 1, 4, 30, tzinfo=UTC), zones={"Etc/GMT+11", "Etc/GMT-14"})
@example(now=datetime(2026, 11, 28, 22, 30, tzinfo=UTC), zones={"Etc/GMT-14"})
async def test_it_is_over_for_every_tenant_and_the_next_one_is_not(
    period: Period, now: datetime, zones: set[str]
) -> None:
    chosen = await last_tick(JOBS[period], request(), directory(zones), now)
    assert all(is_over(period, chosen, zone, now) for zone in zones)
    assert not all(is_over(period, after(period, chosen), zone, now) for zone in zones)


async def test_who_does_not_run_has_no_say() -> None:
    now = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)
    tenants = directory({"UTC"})
    tenants.add(
        make_tenant("west", TenantStatus.SUSPENDED, time_zone="Etc/GMT+11"),
        make_tenant("nowhere", time_zone="UTC").model_copy(update={"time_zone": "No/Where"}),
    )
    assert await last_tick(JOBS[Period.DAY], request(), tenants, now) == "2026-11-27"


async def test_without_tenants_or_at_their_local_time_it_is_the_period_in_utc() -> None:
    now = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)
    job = JOBS[Period.DAY]
    assert await last_tick(job, request(), directory(()), now) == "2026-11-27"
    local = request().model_copy(update={"local_time": True})
    assert await last_tick(job, local, directory({"Etc/GMT+11"}), now) == "2026-11-27"


def request() -> FanOutInput:
    return FanOutInput(job="test.controlled_daily")


def directory(zones: Collection[str]) -> InMemoryDirectory:
    tenants = [make_tenant(f"t{n}", time_zone=zone) for n, zone in enumerate(sorted(zones))]
    return InMemoryDirectory(tenants)

"""Rates: of each tenant, of all together, and what they do without Redis."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta
from itertools import product

import pytest
from redis.asyncio import Redis

from dev.devstack.redis import RedisServer
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.shared_state._errors import RateLimited, RateUnavailable
from temporal_tenancy.shared_state._rates import (
    Away,
    Rate,
    platform_rate_limit,
    seconds_until_admitted,
    tenant_rate_limit,
)
from temporal_tenancy.shared_state._store import SharedState, use_shared_state
from tests.fixtures.redis import PATIENT, sharing

THREE = Rate(3, timedelta(hours=1))


@pytest.fixture
def others(redis_url: str) -> list[SharedState]:
    """Two other processes' shared state."""
    return [SharedState(redis_url, timeout=PATIENT) for _ in range(2)]


async def admitted(calls: int, name: str = "partner", rate: Rate = THREE) -> int:
    """Returns how many of the calls the tenant's rate admits."""
    count = 0
    for _ in range(calls):
        try:
            await tenant_rate_limit(name, rate)
        except RateLimited:
            continue
        count += 1
    return count


async def test_each_tenant_has_its_own_rate(state: SharedState) -> None:
    for tenant in ("acme", "globex"):
        with sharing(state, tenant):
            assert await admitted(5) == 3


async def test_processes_count_together(state: SharedState, others: list[SharedState]) -> None:
    total = 0
    for each in (state, *others):
        with sharing(each, "acme"):
            total += await admitted(2)
    assert total == 3
    for each in others:
        await each.close()


async def test_a_platforms_rate_is_all_tenants(state: SharedState) -> None:
    with sharing(state, "acme"):
        for _ in range(3):
            await platform_rate_limit("partner", THREE, "shop.example")
    with sharing(state, "globex"):
        with pytest.raises(RateLimited):
            await platform_rate_limit("partner", THREE, "shop.example")
        await platform_rate_limit("partner", THREE, "other.example")
        await tenant_rate_limit("partner", THREE, "shop.example")  # its own is another one


async def test_a_platforms_rate_needs_no_scope(state: SharedState) -> None:
    with use_shared_state(state):
        await platform_rate_limit("door", THREE, "192.0.2.1")


async def test_a_tenants_rate_needs_a_scope(state: SharedState) -> None:
    with use_shared_state(state), pytest.raises(ScopeMissing, match="needs a tenant"):
        await tenant_rate_limit("partner", THREE)


async def test_the_error_says_when_to_try_again(state: SharedState) -> None:
    with sharing(state, "acme"):
        await admitted(3)
        with pytest.raises(RateLimited, match="partner is used up") as refused:
            await tenant_rate_limit("partner", THREE)
    assert timedelta(0) < refused.value.retry_after <= timedelta(hours=1)
    assert refused.value.next_retry_delay == refused.value.retry_after
    assert not refused.value.non_retryable


@pytest.mark.parametrize("where", ["redis", "here"])
async def test_a_rate_of_one_in_ten_seconds_says_ten_seconds(
    state: SharedState, where: str
) -> None:
    with sharing(state if where == "redis" else SharedState(None), "acme"):
        await tenant_rate_limit("partner", Rate.per_second(0.1))
        with pytest.raises(RateLimited) as refused:
            await tenant_rate_limit("partner", Rate.per_second(0.1))
    assert timedelta(seconds=5) < refused.value.retry_after <= timedelta(seconds=10)


@pytest.mark.parametrize("amount", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("expiry", [1, 10, 60])
def test_it_says_the_time_at_which_the_window_admits(amount: int, expiry: int) -> None:
    """As the server counts: https://limits.readthedocs.io/en/stable/strategies.html"""

    def admits(before: int, before_ends: float, now: int) -> bool:
        return math.floor(before * max(before_ends, 0) / expiry) + now < amount

    def admits_after(seconds: float, before: int, now: int, ends: float) -> bool:
        if seconds < ends:
            return admits(before, ends - seconds, now)
        return admits(now, ends + expiry - seconds, 0)

    for before, now, tenth in product(range(amount + 1), range(amount + 1), range(1, 11)):
        ends = expiry * tenth / 10
        if admits_after(0, before, now, ends):
            continue
        found = seconds_until_admitted(amount, expiry, before, ends, now, ends)
        assert admits_after(found + 1e-6, before, now, ends)
        assert not admits_after(found - 1e-6, before, now, ends)


async def test_one_can_wait_for_a_rate(state: SharedState) -> None:
    one = Rate(1, timedelta(seconds=1))
    with sharing(state, "acme"):
        await tenant_rate_limit("partner", one)
        await tenant_rate_limit("partner", one, wait=timedelta(seconds=10))


async def test_clocks_that_differ_admit_no_more(
    state: SharedState, others: list[SharedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = time.time
    total = 0
    for skew, each in zip((0, 7200, -7200), (state, *others), strict=True):
        monkeypatch.setattr(time, "time", lambda skew=skew: true() + skew)
        with sharing(each, "acme"):
            total += await admitted(2)
    assert total == 3
    for each in others:
        await each.close()


async def test_every_key_is_an_owners_and_has_an_end(state: SharedState, redis_url: str) -> None:
    with sharing(state, "acme"):
        await admitted(4)
        await platform_rate_limit("partner", THREE)
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        keys = [key async for key in client.scan_iter()]
        assert len(keys) == 2
        for key in keys:
            assert "tenancy:{acme}:rate" in key or "tenancy:{platform}:rate" in key
            assert await client.pttl(key) > 0


@pytest.mark.parametrize(("away", "count"), [("allow", 5), ("local", 3), ("refuse", 0)])
async def test_a_rate_without_redis_does_what_it_was_told(
    own_redis: RedisServer, away: Away, count: int
) -> None:
    state = SharedState(own_redis.url)
    own_redis.kill()
    found = 0
    with sharing(state, "acme"):
        for _ in range(5):
            try:
                await tenant_rate_limit("partner", THREE, away=away)
            except RateLimited:
                continue
            except RateUnavailable:
                continue
            found += 1
    assert found == count
    await state.close()


async def test_a_process_without_a_server_counts_on_its_own() -> None:
    with sharing(SharedState(None), "acme"):
        assert await admitted(5) == 3


async def test_many_at_once_get_no_more(state: SharedState) -> None:
    with sharing(state, "acme"):
        found = await asyncio.gather(
            *(tenant_rate_limit("partner", THREE) for _ in range(40)), return_exceptions=True
        )
    assert list(found).count(None) == 3


@pytest.mark.parametrize(
    ("calls", "rate"),
    [
        (50.0, Rate(50)),
        (2.9, Rate(2)),
        (1, Rate(1)),
        (0.1, Rate(1, timedelta(seconds=10))),
        (1e-12, Rate(1, timedelta(seconds=10**6))),
    ],
)
def test_a_plans_rate_is_in_calls_per_second(calls: float, rate: Rate) -> None:
    assert Rate.of_plan({"partner": calls}, "partner", 7) == rate
    assert Rate.of_plan({}, "partner", 7) == Rate(7)


@pytest.mark.parametrize("calls", [0, -1, float("nan"), float("inf")])
def test_what_admits_nothing_is_no_rate(calls: float) -> None:
    with pytest.raises(ConfigurationError, match="is no rate"):
        Rate.per_second(calls)


@pytest.mark.parametrize(
    ("calls", "per"),
    [(0, timedelta(seconds=1)), (1, timedelta(0)), (1, timedelta(milliseconds=1500))],
)
def test_a_rate_is_calls_in_whole_seconds(calls: int, per: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="is no rate"):
        Rate(calls, per)

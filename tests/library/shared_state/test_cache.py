"""The cache: each tenant's own, with an end, and a miss where there is no Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from pydantic import BaseModel, TypeAdapter
from redis.asyncio import Redis

from dev.devstack.redis import RedisServer
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.shared_state import _cache, _circuit
from temporal_tenancy.shared_state._cache import TenantCache, tenant_cache
from temporal_tenancy.shared_state._errors import SharedStateUnavailable
from temporal_tenancy.shared_state._store import SharedState, use_shared_state
from tests.fixtures.log_lines import LogLines
from tests.fixtures.redis import PATIENT, sharing

MINUTE = timedelta(minutes=1)


class Price(BaseModel):
    cents: int


PRICES = tenant_cache("prices", Price, ttl=MINUTE)
FEW = tenant_cache("few", int, ttl=MINUTE, entries=3)
MAYBE: TenantCache[int | None] = TenantCache("maybe", TypeAdapter(int | None), MINUTE, 9, MINUTE)


async def keys_in(url: str) -> list[str]:
    async with Redis.from_url(url, decode_responses=True) as client:
        return [key async for key in client.scan_iter()]


async def test_each_tenant_has_its_own_values(state: SharedState) -> None:
    for tenant, cents in (("acme", 1), ("globex", 2)):
        with sharing(state, tenant):
            await PRICES.set(Price(cents=cents), "seat")
    for tenant, price in (("acme", Price(cents=1)), ("globex", Price(cents=2)), ("initech", None)):
        with sharing(state, tenant):
            assert await PRICES.get("seat") == price


async def test_every_key_names_its_tenant_and_has_an_end(
    state: SharedState, redis_url: str
) -> None:
    with sharing(state, "acme"):
        await PRICES.set(Price(cents=1), "seat")
        await PRICES.get_or_compute(_price(2), "bag")
        await PRICES.delete("seat")
    keys = await keys_in(redis_url)
    assert keys
    assert all(key.startswith("tenancy:{acme}:cache") for key in keys)
    async with Redis.from_url(redis_url) as client:
        ends = [await client.pttl(key) for key in keys]
    assert all(0 < end <= 60_000 for end in ends)


async def test_a_value_ends(state: SharedState) -> None:
    short = tenant_cache("short", int, ttl=timedelta(milliseconds=1))
    with sharing(state, "acme"):
        await short.set(1)
        while await short.get() is not None:
            await asyncio.sleep(0.001)


async def test_a_value_of_another_form_is_a_miss(state: SharedState) -> None:
    with sharing(state, "acme"):
        await tenant_cache("prices", str, ttl=MINUTE).set("of another release", "seat")
        assert await PRICES.get("seat") is None
        assert (await PRICES.get_or_compute(_price(2), "seat")).cents == 2


async def test_what_is_deleted_while_it_is_computed_is_not_kept(state: SharedState) -> None:
    async def compute() -> Price:
        await PRICES.delete("seat")
        return Price(cents=1)

    with sharing(state, "acme"):
        assert (await PRICES.get_or_compute(compute, "seat")).cents == 1
        assert await PRICES.get("seat") is None


async def test_what_is_cleared_while_it_is_computed_is_not_kept(state: SharedState) -> None:
    async def compute() -> Price:
        await PRICES.clear()
        return Price(cents=1)

    with sharing(state, "acme"):
        await PRICES.get_or_compute(compute, "seat")
        assert await PRICES.get("seat") is None


async def test_clearing_empties_one_tenants_cache_of_one_name(
    state: SharedState, redis_url: str
) -> None:
    for tenant in ("acme", "globex"):
        with sharing(state, tenant):
            await PRICES.set(Price(cents=1), "seat")
            await PRICES.set(Price(cents=1), "bag")
            await FEW.set(1)
    with sharing(state, "acme"):
        assert await PRICES.clear() == 2
        assert await PRICES.get("seat") is None
        assert await FEW.get() == 1
    with sharing(state, "globex"):
        assert await PRICES.get("seat") is not None
    left = [key for key in await keys_in(redis_url) if key.startswith("tenancy:{acme}")]
    assert not [key for key in left if ":prices" in key]


async def test_a_tenants_cache_is_bounded(state: SharedState) -> None:
    with sharing(state, "globex"):
        await FEW.set(0, "theirs")
    with sharing(state, "acme"):
        for number in range(5):
            await FEW.set(number, str(number))
        found = [await FEW.get(str(number)) for number in range(5)]
    assert len([each for each in found if each is not None]) == 3
    with sharing(state, "globex"):
        assert await FEW.get("theirs") == 0


async def test_a_large_value_is_not_kept(state: SharedState, log_lines: LogLines) -> None:
    texts = tenant_cache("texts", str, ttl=MINUTE)
    with sharing(state, "acme"):
        await texts.set("old")
        await texts.set("a" * _cache.VALUE_MAX_BYTES)
        assert await texts.get() is None
    assert log_lines.one("cache.value_too_large")["cache"] == "texts"


async def test_none_can_be_a_value(state: SharedState) -> None:
    computed = 0

    async def compute() -> int | None:
        nonlocal computed
        computed += 1
        return None

    with sharing(state, "acme"):
        for _ in range(2):
            assert await MAYBE.get_or_compute(compute) is None
    assert computed == 1


async def test_one_computes_for_all(state: SharedState) -> None:
    computed, go = [], asyncio.Event()

    async def compute() -> Price:
        computed.append(1)
        await go.wait()
        return Price(cents=len(computed))

    with sharing(state, "acme"):
        waiting = [asyncio.ensure_future(PRICES.get_or_compute(compute, "seat")) for _ in range(20)]
        while not computed:
            await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(*waiting)
    assert [each.cents for each in found] == [1] * 20
    assert len({id(each) for each in found}) == 20  # none can change another's


async def test_who_read_before_another_kept_a_value_finds_it(
    state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, has_read, go = state.call, asyncio.Event(), asyncio.Event()

    async def slowly(call: Callable[[Redis], Awaitable[object]]) -> object:
        answer = await ask(call)
        if not has_read.is_set():
            has_read.set()
            await go.wait()
        return answer

    monkeypatch.setattr(state, "call", slowly)
    with sharing(state, "acme"):
        late = asyncio.ensure_future(PRICES.get_or_compute(_price(2), "seat"))
        await has_read.wait()
        assert (await PRICES.get_or_compute(_price(1), "seat")).cents == 1
        go.set()
        assert (await late).cents == 1
        assert (await PRICES.get_or_compute(_price(3), "seat")).cents == 1


async def test_one_process_computes_for_the_others(state: SharedState, redis_url: str) -> None:
    computing, go = asyncio.Event(), asyncio.Event()
    another = SharedState(redis_url, timeout=PATIENT)

    async def compute() -> Price:
        computing.set()
        await go.wait()
        return Price(cents=1)

    async def compute_again() -> Price:
        raise AssertionError("computed twice")

    async def first() -> Price:
        with sharing(state, "acme"):
            return await PRICES.get_or_compute(compute, "seat")

    async def second() -> Price:
        with sharing(another, "acme"):
            asyncio.get_running_loop().call_later(0.02, go.set)
            return await PRICES.get_or_compute(compute_again, "seat")

    one = asyncio.ensure_future(first())
    await computing.wait()
    assert (await second()).cents == (await one).cents == 1
    await another.close()


async def test_another_takes_over_from_a_process_that_is_gone(
    state: SharedState, redis_url: str
) -> None:
    hasty = tenant_cache("hasty", int, ttl=MINUTE, patience=timedelta(0))
    another = SharedState(redis_url, timeout=PATIENT)

    async def compute() -> int:
        with use_shared_state(another):
            assert await hasty.get_or_compute(_number(2)) == 2
        return 1

    with sharing(state, "acme"):
        assert await hasty.get_or_compute(compute) == 1
        assert await hasty.get() == 2  # what was computed first is older
    await another.close()


async def test_an_error_is_everybodys_and_not_kept(state: SharedState) -> None:
    go = asyncio.Event()

    async def fail() -> Price:
        await go.wait()
        raise LookupError("no price")

    with sharing(state, "acme"):
        waiting = [asyncio.ensure_future(PRICES.get_or_compute(fail, "seat")) for _ in range(3)]
        await asyncio.sleep(0.01)
        go.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in found] == [LookupError] * 3
        assert (await PRICES.get_or_compute(_price(1), "seat")).cents == 1


async def test_the_next_computes_where_the_first_was_cancelled(state: SharedState) -> None:
    begun = asyncio.Event()

    async def never() -> Price:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    with sharing(state, "acme"):
        first = asyncio.ensure_future(PRICES.get_or_compute(never, "seat"))
        await begun.wait()
        second = asyncio.ensure_future(PRICES.get_or_compute(_price(2), "seat"))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second).cents == 2
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_one_who_waits_can_be_cancelled(state: SharedState) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def compute() -> Price:
        begun.set()
        await go.wait()
        return Price(cents=1)

    with sharing(state, "acme"):
        first = asyncio.ensure_future(PRICES.get_or_compute(compute, "seat"))
        await begun.wait()
        second = asyncio.ensure_future(PRICES.get_or_compute(compute, "seat"))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        assert (await first).cents == 1


@pytest.mark.parametrize("call", ["get", "set", "delete", "clear", "get_or_compute"])
async def test_nothing_is_cached_outside_a_tenants_scope(state: SharedState, call: str) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: PRICES.get("seat"),
        "set": lambda: PRICES.set(Price(cents=1), "seat"),
        "delete": lambda: PRICES.delete("seat"),
        "clear": PRICES.clear,
        "get_or_compute": lambda: PRICES.get_or_compute(_price(1), "seat"),
    }
    with use_shared_state(state), pytest.raises(ScopeMissing, match="needs a tenant"):
        await calls[call]()


async def test_a_dead_redis_is_a_miss_that_costs_no_time(own_redis: RedisServer) -> None:
    state = SharedState(own_redis.url)
    with sharing(state, "acme"):
        await PRICES.set(Price(cents=1), "seat")
        own_redis.kill()
        assert await PRICES.get("seat") is None
        state.circuit.failed("away")  # the pause begins now
        began = time.monotonic()
        for _ in range(100):
            assert await PRICES.get("seat") is None
        assert time.monotonic() - began < 0.2
        assert (await PRICES.get_or_compute(_price(2), "seat")).cents == 2
        for change in (PRICES.clear, lambda: PRICES.delete("seat")):
            with pytest.raises(SharedStateUnavailable, match="away"):
                await change()
    await state.close()


async def test_a_redis_that_answers_nothing_costs_one_timeout(own_redis: RedisServer) -> None:
    state = SharedState(own_redis.url, timeout=timedelta(milliseconds=50))
    with sharing(state, "acme"):
        await PRICES.set(Price(cents=1), "seat")
        with own_redis.paused():
            began = time.monotonic()
            for _ in range(50):
                assert await PRICES.get("seat") is None
            assert time.monotonic() - began < 0.5
    await state.close()


async def test_it_is_used_again_once_it_is_back(
    own_redis: RedisServer, log_lines: LogLines
) -> None:
    state = SharedState(own_redis.url)
    state.circuit = _circuit.Circuit(pause=0)
    with sharing(state, "acme"):
        own_redis.kill()
        assert await PRICES.get("seat") is None
        assert await PRICES.get("seat") is None
        own_redis.start()
        await PRICES.set(Price(cents=1), "seat")
        assert await PRICES.get("seat") == Price(cents=1)
    await state.close()
    assert log_lines.one("shared_state.away")["reason"] == "it cannot be reached."
    log_lines.one("shared_state.back")


async def test_without_a_server_each_process_computes() -> None:
    with sharing(SharedState(None), "acme"):
        await PRICES.set(Price(cents=1), "seat")
        assert await PRICES.get("seat") is None
        assert (await PRICES.get_or_compute(_price(2), "seat")).cents == 2
        assert await PRICES.clear() == 0
        await PRICES.delete("seat")


def test_a_cache_without_an_end_is_refused() -> None:
    for ttl in (timedelta(0), timedelta(days=31), timedelta(seconds=-1)):
        with pytest.raises(ConfigurationError, match="ttl"):
            tenant_cache("prices", Price, ttl=ttl)
    with pytest.raises(ConfigurationError, match="no room"):
        tenant_cache("prices", Price, ttl=MINUTE, entries=0)


def test_a_type_that_is_no_json_is_refused() -> None:
    class Odd:
        pass

    with pytest.raises(ConfigurationError, match="pydantic cannot"):
        tenant_cache("odd", Odd, ttl=MINUTE)


def _price(cents: int) -> Callable[[], Awaitable[Price]]:
    async def compute() -> Price:
        return Price(cents=cents)

    return compute


def _number(number: int) -> Callable[[], Awaitable[int]]:
    async def compute() -> int:
        return number

    return compute


def test_another_reason_of_being_away_is_told_too() -> None:
    circuit = _circuit.Circuit()
    told = [circuit.failed(why) for why in ("no answer", "no answer", "a wrong password")]
    assert told == [True, False, True]
    assert circuit.succeeded()
    assert circuit.failed("a wrong password")

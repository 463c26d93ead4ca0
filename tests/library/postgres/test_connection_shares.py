"""Shares of a pool: who gets the next connection, and that each connection returns."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres._connection_shares import ConnectionShares, Holder
from temporal_tenancy.postgres.database_errors import (
    PoolExhausted,
    PoolShareExceeded,
    PoolShareInUse,
)
from temporal_tenancy.postgres.pool_share import PoolShare
from tests.fixtures.turns_of_the_loop import until


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def get(shares: ConnectionShares, holder: Holder) -> None:
    if not shares.take(holder):
        await shares.wait(holder)


def held_by(shares: ConnectionShares, *tenants: str) -> list[Holder]:
    """Sessions that each hold a connection."""
    holders = [Holder(shares, tenant, None) for tenant in tenants]
    assert all(shares.take(holder) for holder in holders)
    return holders


def asking(shares: ConnectionShares, tenant: str) -> asyncio.Task[Holder]:
    """A session that asks for a connection and keeps it."""

    async def ask() -> Holder:
        with shares.holder(tenant) as holder:
            await get(shares, holder)
            return holder

    return asyncio.create_task(ask())


@pytest.mark.parametrize(
    ("size", "reserved", "most"),
    [(10, 2, 8), (10, 5, 5), (4, 2, 2), (3, 2, 1), (2, 2, 1), (1, 2, 1), (5, 0, 5)],
)
def test_a_tenant_may_hold_all_but_what_is_kept_for_others_and_one_always(
    size: int, reserved: int, most: int
) -> None:
    assert PoolShare(size, reserved).most == most


@pytest.mark.parametrize(
    ("share", "part", "most"),
    [
        (PoolShare(10), 0.25, 2),
        (PoolShare(10), 0.01, 1),
        (PoolShare(10), 1.0, 8),
        (PoolShare(10, reserved=6), None, 4),
        (PoolShare(10, reserved=6), 0.7, 7),
        (PoolShare(2), 1.0, 1),
        (PoolShare(1), 1.0, 1),
    ],
)
def test_a_plan_says_what_part_of_a_pool_a_tenant_may_hold(
    share: PoolShare, part: float | None, most: int
) -> None:
    assert share.most_of(part) == most


async def test_tenants_of_two_plans_hold_what_each_plan_says() -> None:
    shares = ConnectionShares(PoolShare(10))
    for owner, most in (("ua", 1), ("dl", 3)):
        for number in range(most + 1):
            assert shares.take(Holder(shares, owner, None, most=most)) is (number < most)
    assert shares.held == {"ua": 1, "dl": 3}


async def test_a_larger_share_is_given_to_those_who_wait_for_it() -> None:
    shares = ConnectionShares(PoolShare(10))
    first = Holder(shares, "ua", None, most=1)
    assert shares.take(first)
    waiting = asking(shares, "ua")
    await until(lambda: shares.waiting == {"ua": 1})
    # Code that does not know the plan changes nothing.
    assert not shares.take(Holder(shares, "ua", None))
    assert shares.take(Holder(shares, "ua", None, most=3))
    await waiting
    assert shares.held == {"ua": 3}
    assert not shares.take(Holder(shares, "ua", None, most=2))


def test_a_pool_without_connections_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        PoolShare(0)


async def test_one_beyond_the_share_waits_while_others_find_one() -> None:
    shares = ConnectionShares(PoolShare(4))
    first, second = held_by(shares, "ua", "ua")
    third = asking(shares, "ua")
    await until(lambda: shares.waiting == {"ua": 1})
    (other,) = held_by(shares, "dl")
    assert shares.held == {"ua": 2, "dl": 1}
    shares.give_back(first)
    assert (await third).connections == 1
    for holder in (second, other, third.result()):
        shares.give_back(holder)
    assert (shares.held, shares.waiting) == ({}, {})


async def test_those_who_wait_are_served_tenant_by_tenant() -> None:
    shares = ConnectionShares(PoolShare(2))
    holders = held_by(shares, "aa", "bb")
    served: list[str] = []

    async def ask(tenant: str) -> None:
        with shares.holder(tenant) as holder:
            await get(shares, holder)
            served.append(tenant)
            shares.give_back(holder)

    tasks = [asyncio.create_task(ask(tenant)) for tenant in ("ua",) * 4 + ("dl",) * 2 + ("hp",)]
    await until(lambda: shares.waiting == {"ua": 4, "dl": 2, "hp": 1})
    shares.give_back(holders[0])
    await asyncio.gather(*tasks)
    assert served == ["ua", "dl", "hp", "ua", "dl", "ua", "ua"]


async def test_a_second_connection_inside_a_session_is_never_waited_for() -> None:
    shares = ConnectionShares(PoolShare(3))
    with shares.holder("ua") as outer:
        assert shares.take(outer)
        with shares.holder("ua") as inner, pytest.raises(PoolShareExceeded, match="inside another"):
            shares.take(inner)
        # Nor by a task that was started there, for which the session may wait.
        with pytest.raises(PoolShareExceeded):
            await asking(shares, "ua")
    assert shares.held == {"ua": 1}


async def test_a_session_inside_one_that_holds_nothing_waits() -> None:
    shares = ConnectionShares(PoolShare(3))
    (holder,) = held_by(shares, "ua")
    with shares.holder("ua"):
        inner = asking(shares, "ua")
        await until(lambda: shares.waiting == {"ua": 1})
    shares.give_back(holder)
    await inner


async def test_a_session_inside_another_has_a_connection_while_there_are_some() -> None:
    shares = ConnectionShares(PoolShare(4))
    with shares.holder("ua") as outer:
        assert shares.take(outer)
        with shares.holder("ua") as inner:
            assert shares.take(inner)


async def test_blocked_work_is_given_up_and_then_refused_at_once() -> None:
    clock = Clock()
    shares = ConnectionShares(PoolShare(3, patience=0.001), clock)
    (holder,) = held_by(shares, "ua")
    waiting = [asking(shares, "ua") for _ in range(3)]
    await until(lambda: shares.waiting == {"ua": 3})
    clock.now += 1
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in ended] == [PoolShareInUse] * 3
    assert "tenant" not in str(ended[0])  # it names its owner unchanged
    with pytest.raises(PoolShareInUse, match="ua's own work holds 1 connection, of the 1"):
        shares.take(Holder(shares, "ua", None))
    # This still holds after the blocked ones have hit their limit, and others are blocked.
    shares.give_back(holder)
    held_by(shares, "ua")
    with pytest.raises(PoolShareInUse):
        shares.take(Holder(shares, "ua", None))
    clock.now += 60
    assert not shares.take(Holder(shares, "ua", None))


async def test_work_that_gets_on_is_waited_for() -> None:
    clock = Clock()
    shares = ConnectionShares(PoolShare(3, patience=0.001), clock)
    with shares.holder("ua") as holder:
        assert shares.take(holder)
        clock.now += 1
        holder.progressed()
    waiting = asking(shares, "ua")
    await until(lambda: shares.waiting == {"ua": 1})
    shares.give_back(holder)
    await waiting


async def test_a_transaction_that_ends_well_ends_a_tenants_being_blocked() -> None:
    clock = Clock()
    shares = ConnectionShares(PoolShare(3, patience=0.001), clock)
    (holder,) = held_by(shares, "ua")
    waiting = asking(shares, "ua")
    await until(lambda: shares.waiting == {"ua": 1})
    clock.now += 1
    with pytest.raises(PoolShareInUse):
        await waiting
    holder.progressed()
    assert not shares.take(Holder(shares, "ua", None))


async def test_a_pool_that_others_hold_says_so() -> None:
    shares = ConnectionShares(PoolShare(2, timeout=0.001))
    held_by(shares, "aa", "bb")
    with pytest.raises(PoolExhausted, match="0 of them its own"):
        await asking(shares, "ua")
    assert shares.waiting == {}


@pytest.mark.parametrize("when", ["waiting", "granted"])
async def test_who_is_cancelled_keeps_nothing(when: str) -> None:
    shares = ConnectionShares(PoolShare(2))
    first, second = held_by(shares, "ua", "dl")
    waiting = asking(shares, "ua")
    await until(lambda: shares.waiting == {"ua": 1})
    if when == "granted":
        shares.give_back(first)  # it has not run since then
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if when == "waiting":
        shares.give_back(first)
    shares.give_back(second)
    assert (shares.held, shares.waiting) == ({}, {})
    held_by(shares, "ua", "dl")


async def test_a_connection_that_comes_back_in_another_thread_wakes_who_waits() -> None:
    shares = ConnectionShares(PoolShare(1))
    (holder,) = held_by(shares, "ua")
    waiting = asking(shares, "dl")
    await until(lambda: shares.waiting == {"dl": 1})
    await asyncio.to_thread(shares.give_back, holder)
    await waiting


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_when_sessions_are_cancelled_at_random(seed: int) -> None:
    chance = random.Random(seed)
    share = PoolShare(chance.randint(1, 6), reserved=chance.choice([2, 3]), patience=5.0)
    shares = ConnectionShares(share)
    most: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()

    async def session(tenant: str, work: Callable[[], Awaitable[None]]) -> None:
        with shares.holder(tenant) as holder:
            await get(shares, holder)
            try:
                most[tenant] = max(most[tenant], shares.held[tenant])
                assert sum(shares.held.values()) <= share.size
                await work()
            finally:
                shares.give_back(holder)

    async def job(tenant: str) -> None:
        async def work() -> None:
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                await session(tenant, lambda: asyncio.sleep(0))

        try:
            await session(tenant, work)
            outcomes["done"] += 1
        except PoolShareExceeded:
            outcomes["refused"] += 1

    tasks = [asyncio.create_task(job(chance.choice(["ua", "dl", "hp"]))) for _ in range(120)]
    while pending := [task for task in tasks if not task.done()]:
        if chance.random() < 0.3:
            chance.choice(pending).cancel()
        await asyncio.sleep(0)
    for task in tasks:
        if not task.cancelled():
            task.result()
    assert (shares.held, shares.waiting) == ({}, {})
    assert outcomes["done"] > 0
    assert all(each <= share.most for each in most.values())
    # All connections are available again.
    owners = [f"t{number}" for number in range(share.size)]
    held_by(shares, *owners)

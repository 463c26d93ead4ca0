"""Rates that all processes share: one of each tenant, or one of all tenants together."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, cast

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import (
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.shared_state._errors import (
    RateLimited,
    RateUnavailable,
    SharedStateUnavailable,
)
from temporal_tenancy.shared_state._keys import PREFIX, encoded, platform_key, tenant_key
from temporal_tenancy.shared_state._store import SharedState, current_shared_state

Away = Literal["allow", "refuse", "local"]
"""What a rate does while Redis is away: admit all, admit nothing, or count in this process."""

RETRY_MIN: Final = 0.05  # seconds

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rate:
    """How many calls are admitted in which time.

    Raises `ConfigurationError` for a rate that admits nothing, or whose time is not whole seconds.
    """

    calls: int
    per: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        if self.calls < 1 or self.per < timedelta(seconds=1) or self.per.microseconds:
            raise ConfigurationError(
                f"{number(self.calls, 'call')} in {duration(self.per)} is no rate. Give it "
                "one call or more in whole seconds."
            )

    @classmethod
    def per_second(cls, calls: float) -> Rate:
        """Returns the rate of `calls` in a second, as plans have them; 0.1: one in ten seconds.

        Raises `ConfigurationError` for none, or no number.
        """
        if not (math.isfinite(calls) and calls > 0):
            raise ConfigurationError(
                f"{calls} calls in a second is no rate. Give a number above 0."
            )
        if calls >= 1:
            return cls(math.floor(calls))
        return cls(1, timedelta(seconds=min(math.ceil(1 / calls), 10**6)))

    @classmethod
    def of_plan(cls, rates: Mapping[str, float], name: str, default: float) -> Rate:
        """Returns the rate `name` of a plan's `rate_limits`, which are in calls per second."""
        return cls.per_second(rates.get(name, default))


async def tenant_rate_limit(
    name: str,
    rate: Rate,
    *parts: str,
    away: Away = "local",
    wait: timedelta = timedelta(0),
) -> None:
    """Counts a call of the current tenant; returns once the rate admits it.

    Args:
        name: of the rate, such as a partner's.
        rate: how much each tenant may do; the processes count together.
        parts: what else has a rate of its own.
        away: what to do while Redis is away.
        wait: how long to wait for the rate.

    Raises:
        ScopeMissing: no tenant's scope is open, or this is workflow code.
        RateLimited: the rate is used up, for longer than `wait`.
        RateUnavailable: Redis is away, and `away` is "refuse".
    """
    await _admit(tenant_key("rate", name, *parts), encoded((name, *parts)), rate, away, wait)


async def platform_rate_limit(
    name: str,
    rate: Rate,
    *parts: str,
    away: Away = "local",
    wait: timedelta = timedelta(0),
    counts: bool = True,
) -> None:
    """Counts a call of whatever tenant; returns once the rate that all tenants share admits it.

    One tenant can use up the whole rate: ask for `tenant_rate_limit` first, with a smaller one.

    Args and Raises: as for `tenant_rate_limit`, but that it needs no scope, and that one which
    does not count (`counts=False`) only asks whether the rate would admit a call.
    """
    key, shown = platform_key("rate", name, *parts), encoded((name, *parts))
    await _admit(key, shown, rate, away, wait, counts=counts)


async def _admit(
    key: str, name: str, rate: Rate, away: Away, wait: timedelta, *, counts: bool = True
) -> None:
    state, loop = current_shared_state(), asyncio.get_running_loop()
    until = loop.time() + wait.total_seconds()
    item = RateLimitItemPerSecond(rate.calls, int(rate.per.total_seconds()))
    while (pause := await _refused(state, item, key, name, away, counts)) is not None:
        if loop.time() + pause > until:
            raise RateLimited(name, timedelta(seconds=pause))
        await asyncio.sleep(pause)


async def _refused(
    state: SharedState, item: RateLimitItemPerSecond, key: str, name: str, away: Away, counts: bool
) -> float | None:
    """Counts a call; returns after how many seconds to try again, or None if it is admitted."""
    if state.client is not None:
        shared = _limiter(state, "shared")
        try:
            return await state.call(lambda client: _hit(shared, item, key, counts))
        except SharedStateUnavailable as error:
            if away == "allow":
                return None
            if away == "refuse":
                raise RateUnavailable(
                    f"the rate {name} is not known. {error.message} It admits nothing meanwhile."
                ) from None
    return await _hit(_limiter(state, "local"), item, key, counts)


async def _hit(limiter: RateLimiter, item: RateLimitItem, key: str, counts: bool) -> float | None:
    """Counts a call; returns after how many seconds to try again, or None if it is admitted."""
    if await (limiter.hit(item, key) if counts else limiter.test(item, key)):
        return None
    return min(max(await _seconds_until(limiter, item, key), RETRY_MIN), float(item.get_expiry()))


async def _seconds_until(limiter: RateLimiter, item: RateLimitItem, key: str) -> float:
    """Returns after how many seconds the next call is admitted, if none comes before it."""
    if not isinstance(limiter, SlidingWindowCounterRateLimiter):
        return (await limiter.get_window_stats(item, key)).reset_time - time.time()
    # `limits` says when its counts change, which may be long before, or after, it admits a call.
    expiry = item.get_expiry()
    storage = cast("RedisStorage", limiter.storage)
    before, before_ends, now, now_ends = await storage.get_sliding_window(item.key_for(key), expiry)
    # A window's counter is kept for another one, as the window before that.
    return seconds_until_admitted(item.amount, expiry, before, before_ends, now, now_ends - expiry)


def seconds_until_admitted(
    amount: int, expiry: float, before: int, before_ends: float, now: int, now_ends: float
) -> float:
    """Returns after how many seconds a window of `expiry` seconds admits a call.

    It does once `now` and what is left of `before`, whose weight falls evenly, are below `amount`:
    https://limits.readthedocs.io/en/stable/strategies.html#sliding-window-counter

    Args:
        amount: the calls that are admitted in a window.
        expiry: the length of a window.
        before: the calls in the window before this one.
        before_ends: the seconds until they have no weight.
        now: the calls in this window.
        now_ends: the seconds until this window ends.
    """
    if now < amount:
        return before_ends - (amount - now) * expiry / before if before else 0.0
    return now_ends + (now - amount) * expiry / now  # it is then the window before


def _limiter(state: SharedState, where: Literal["shared", "local"]) -> RateLimiter:
    """Returns the limiter that counts in Redis or in this process.

    In Redis it counts by windows that the server ends, so processes whose clocks differ count the
    same. The weight of the window before is an estimate, by which one call more than the rate can
    be admitted around the end of a window.
    """
    found: RateLimiter | None = state.counters.get(where)
    if found is None:
        if where == "local" or state.client is None:
            found = MovingWindowRateLimiter(MemoryStorage())
        else:
            pool: Any = state.client.connection_pool  # a client's option, passed on
            found = SlidingWindowCounterRateLimiter(
                RedisStorage(
                    "redis://",
                    implementation="redispy",
                    key_prefix=f"{PREFIX}:rates",
                    connection_pool=pool,
                )
            )
        state.counters[where] = found
    return found

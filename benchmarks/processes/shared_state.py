"""What do the cache and the lock helper add to the client of Redis alone?

Ours: `tenant_cache()` and `tenant_lock()`, with the tenant in the key, a generation that `clear()`
ends, and a fence from the database. Peer: `redis.asyncio` alone. For the cache: GET of a key, and
the same JSON decoded by the same pydantic adapter. For the lock: its own `Lock`, with the same
transaction in the database that numbers the holders, since a lock without a fence protects nothing
after a pause.

Both have a pool of their own on one server. The arms alternate with each call; a round has 100
cached values, or 20 locks, of each. The value is the peer's time divided by ours: how many calls of
ours go into the time of one of the peer's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from statistics import median
from typing import Final

from pydantic import BaseModel, TypeAdapter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.lock import Lock
from sqlalchemy import text

from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from dev.devstack.errors import PartMissing
from dev.devstack.redis import RedisServer, redis_program
from temporal_tenancy import Database, TenantScope, enter, tenant_session, use_database
from temporal_tenancy.postgres import connect
from temporal_tenancy.shared_state import (
    SharedState,
    tenant_cache,
    tenant_lock,
    use_shared_state,
)

NAME: Final = "shared_state"
GOAL: Final = Goal(">=", 0.8)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANT: Final = "acme"
READS: Final = 100  # of each arm in a round
LOCKS: Final = 20  # likewise
MINUTE: Final = timedelta(minutes=1)

# What a careful application would do by hand: number the holders, in its own tenant's transaction.
_NUMBER: Final = text("""
    insert into bench_fences as fence (tenant_id, name, token) values (:tenant, :name, 1)
    on conflict (tenant_id, name) do update set token = fence.token + 1
    returning token
""")
_FENCES: Final = """
    create table bench_fences (
        tenant_id text, name text, token bigint, primary key (tenant_id, name)
    );
    grant select, insert, update on bench_fences to tenancy_tenant
"""


class Price(BaseModel):
    """What is kept: a small model."""

    route: str
    cents: int
    currency: str


PRICE: Final = Price(route="JFK-SFO", cents=31_900, currency="USD")
PRICES: Final = tenant_cache("bench-prices", Price, ttl=MINUTE)
ADAPTER: Final = TypeAdapter(Price)

Call = Callable[[], Awaitable[object]]


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures both; a few seconds."""
    program = redis_program()
    if program is None:
        raise PartMissing("redis-server is not installed. Install redis or valkey.")
    urls = servers.new_database(NAME)
    with connect(urls.owner) as owner:
        owner.execute(_FENCES)
    database = Database(tenant_url=urls.tenant)
    server = RedisServer(servers.directory / "redis", program, preferred=None)
    with server:
        state = SharedState(server.url, timeout=timedelta(seconds=10))
        client = Redis(connection_pool=BlockingConnectionPool.from_url(server.url))
        try:
            with use_database(database), use_shared_state(state), enter(TenantScope(TENANT)):
                return [await _cache(client), await _lock(client)]
        finally:
            await state.close()
            await client.aclose(close_connection_pool=True)
            await database.dispose()


async def _cache(client: Redis) -> Answer:
    await PRICES.set(PRICE, "one")
    await client.set("bench:prices:one", ADAPTER.dump_json(PRICE), ex=60)

    async def ours() -> None:
        assert await PRICES.get("one") == PRICE

    async def peer() -> None:
        found = await client.get("bench:prices:one")
        assert found is not None
        assert ADAPTER.validate_json(found) == PRICE

    comparison = await _compared({Arm.OURS: ours, Arm.PEER: peer}, READS)
    return _answer("cache", "GET, and the same model from its JSON", comparison)


async def _lock(client: Redis) -> Answer:
    async def ours() -> None:
        async with tenant_lock("bench"):
            pass

    async def peer() -> None:
        async with Lock(client, "bench:lock", timeout=30), tenant_session() as session:
            await session.scalar(_NUMBER, {"tenant": TENANT, "name": "bench"})

    comparison = await _compared({Arm.OURS: ours, Arm.PEER: peer}, LOCKS)
    return _answer("lock", "redis.asyncio's Lock, with a transaction that numbers it", comparison)


async def _compared(calls: dict[Arm, Call], count: int) -> Comparison:
    """Compares how many calls go into a second; the first round is not counted."""
    comparison = Comparison()
    for number in range(rounds(20, full=100) + 1):
        taken: dict[Arm, list[float]] = {arm: [] for arm in Arm}
        for order in turns(count):
            for arm in order:
                began = time.perf_counter()
                await calls[arm]()
                taken[arm].append(time.perf_counter() - began)
        if number:
            comparison.add({arm: 1 / median(times) for arm, times in taken.items()})
    return comparison


def _answer(what: str, peer: str, comparison: Comparison) -> Answer:
    ours, theirs = (1e6 / median(each) for each in (comparison.ours, comparison.peer))
    tell(f"{NAME}.{what}: {ours:.0f} µs, the client alone {theirs:.0f} µs")
    return Answer(f"{NAME}.{what}", peer, GOAL, "calls/s, one after the other", comparison)

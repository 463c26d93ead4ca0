"""What does a tenant's session of ten statements cost in each isolation?

Ours: a `tenant_session()` of a tenant in the shared tables, in a schema of its own, and in a
database of its own. Peer: SQLAlchemy's `AsyncSession` on an engine of its own, in the same tables,
as a superuser for whom there is no row-level security, and without any of the library's checks. So
it sends neither the message that names the tenant nor the one that resets the connection. Both send
their statements unprepared, as a pooler in transaction mode asks for.

The ten statements are five rows by their key, three months that are summed, and two updates, all
through the ORM and with the tenant in their condition. A time covers opening the session, taking a
pooled connection, the statements, the commit, and putting the connection back. A round has 20 pairs
in turns and takes the p50 of each arm.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from benchmarks.shared.store_tenants import SHARED, Places, database_stores, schema_store
from dev.devstack.postgres import DatabaseUrls
from saas.database.tables import DailyUsage
from temporal_tenancy import Database, Isolation, Store, TenantScope, enter, tenant_session
from temporal_tenancy import use_database as using

NAME: Final = "session_of_ten"
GOAL: Final = Goal("<=", 1.25)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
PAIRS: Final = 20  # sessions per round and arm
FIRST: Final = dt.date(2013, 1, 1)
DAYS: Final = 365
TENANTS: Final = {isolation: f"in-{isolation}" for isolation in Isolation}

_FILL: Final = """
    insert into daily_usage (tenant_id, day, events, cancelled, distance, air_time)
    select :tenant, date '2013-01-01' + number, 100, 1, 70000, 9000
    from generate_series(0, 364) as number
"""

Opening = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass(frozen=True)
class _Bare:
    """A session of SQLAlchemy alone, for the tables of one store."""

    engine: AsyncEngine

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures each isolation; about half a minute in total."""
    urls = servers.new_database(NAME)
    of_databases = database_stores(servers, NAME, [TENANTS[Isolation.DATABASE]])
    of_schemas = {
        TENANTS[Isolation.SCHEMA]: schema_store(urls, TENANTS[Isolation.SCHEMA]),
    }
    stores = {**of_databases, **of_schemas}
    database = Database(tenant_url=urls.tenant, stores=Places(stores))
    try:
        with using(database):
            return [
                await _answer(isolation, urls, stores.get(TENANTS[isolation], SHARED))
                for isolation in Isolation
            ]
    finally:
        await database.dispose()


async def _answer(isolation: Isolation, urls: DatabaseUrls, store: Store) -> Answer:
    tenant = TENANTS[isolation]
    engine = _bare_engine(urls, store)
    opening: dict[Arm, Opening] = {Arm.OURS: tenant_session, Arm.PEER: _Bare(engine).session}
    comparison = Comparison()
    try:
        with enter(TenantScope(tenant)):
            async with tenant_session() as session:
                await session.execute(text(_FILL), {"tenant": tenant})
            for number in range(rounds(20, full=100) + 1):
                taken: dict[Arm, list[float]] = {arm: [] for arm in Arm}
                for turn, order in enumerate(turns(PAIRS)):
                    for arm in order:
                        taken[arm].append(await _ten_statements(opening[arm], tenant, turn))
                if number:
                    comparison.add({arm: median(times) for arm, times in taken.items()})
    finally:
        await engine.dispose()
    name = f"{NAME}.{isolation}"
    tell(f"{name}: {median(comparison.ours):.2f} ms, bare {median(comparison.peer):.2f} ms")
    peer = "a bare SQLAlchemy session in the same tables"
    return Answer(name, peer, GOAL, "ms, p50 of a session", comparison)


def _bare_engine(urls: DatabaseUrls, store: Store) -> AsyncEngine:
    url = urls.superuser
    if store.url is not None:
        url = url.rpartition("/")[0] + "/" + store.url.rpartition("/")[2]
    path = {} if store.schema is None else {"options": f"-csearch_path={store.schema}"}
    return create_async_engine(
        url,
        connect_args={"prepare_threshold": None, **path},
    )


async def _ten_statements(opening: Opening, tenant: str, number: int) -> float:
    """Runs a session; returns its milliseconds."""
    own = DailyUsage.tenant_id == tenant
    began = time.perf_counter()
    async with opening() as session:
        for each in range(5):
            day = FIRST + dt.timedelta(days=(number * 37 + each * 71) % DAYS)
            query = select(DailyUsage).where(own, DailyUsage.day == day)
            assert (await session.scalars(query)).one().distance == 70_000
        for month in (2, 5, 9):
            since, until = dt.date(2013, month, 1), dt.date(2013, month + 1, 1)
            total = select(func.sum(DailyUsage.events)).where(
                own, DailyUsage.day >= since, DailyUsage.day < until
            )
            assert await session.scalar(total)
        for each in range(2):
            day = FIRST + dt.timedelta(days=(number * 2 + each) % DAYS)
            change = update(DailyUsage).where(own, DailyUsage.day == day).values(cancelled=number)
            await session.execute(change)
    return (time.perf_counter() - began) * 1000

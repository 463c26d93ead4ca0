"""One tenant's blocked work leaves connections to the others."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dev.devstack.postgres import DatabaseUrls
from processes.connect import database as configured
from saas.settings import Settings
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres._connection_shares import ConnectionShares
from temporal_tenancy.postgres._shared_pool import SharedPool
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.database_errors import (
    DatabaseProblem,
    DatabaseUnreachable,
    PoolShareExceeded,
    PoolShareInUse,
)
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.session_limits import SessionLimits
from tests.fixtures.postgres import within

CHANGE = text("update daily_usage set events = events + 1")
PATIENT = SessionLimits(lock=timedelta(minutes=1), statement=timedelta(minutes=1))
WAITING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.fixture
async def ten(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A worker's database of ten connections, whose limits do not end blocked statements."""
    database = Database(
        tenant_url=database_urls.tenant,
        platform_url=database_urls.platform,
        tenant_pool=PoolShare(10, patience=0.2),
        tenant_limits=PATIENT,
    )
    yield database
    await database.dispose()


def shares_of(database: Database) -> ConnectionShares:
    pool = database.tenant_engine.pool
    assert isinstance(pool, SharedPool)
    return pool.shares


@contextmanager
def locked(urls: DatabaseUrls, tenant: str) -> Iterator[None]:
    """Holds a lock on the tenant's row in an idle transaction; dl has a row too."""
    with connect(urls.superuser) as blocker:
        for each in (tenant, "dl"):
            blocker.execute("insert into daily_usage values (%s, '2013-04-01', 1, 0, 0, 0)", [each])
        with blocker.transaction():
            blocker.execute("update daily_usage set events = 2 where tenant_id = %s", [tenant])
            yield


def work(tenant: str) -> asyncio.Task[None]:
    """Starts a job of the tenant that changes its row."""

    async def change() -> None:
        with enter(TenantScope(tenant)):
            async with tenant_session() as session:
                await session.execute(CHANGE)

    return asyncio.create_task(change())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0.02)


def blocked(urls: DatabaseUrls) -> int:
    """Returns how many connections wait for a lock."""
    with connect(urls.superuser) as superuser:
        return int((superuser.execute(WAITING).fetchone() or [0])[0])


async def test_jobs_of_one_tenant_end_while_those_of_another_are_blocked(
    ten: Database, database_urls: DatabaseUrls
) -> None:
    with use_database(ten):
        with locked(database_urls, "ua"):
            stuck = [work("ua") for _ in range(14)]
            await until(lambda: blocked(database_urls) >= 8)
            assert shares_of(ten).held == {"tenant ua": 8}
            async with asyncio.timeout(20):
                await asyncio.gather(work("dl"), work("dl"))
                # A job without a connection does not wait without end.
                given_up, _waiting = await asyncio.wait(stuck, return_when=asyncio.FIRST_COMPLETED)
                assert {type(job.exception()) for job in given_up} == {PoolShareInUse}
                with pytest.raises(PoolShareInUse, match="tenant ua's own work holds 8"):
                    await work("ua")
                await work("dl")
        done = await asyncio.gather(*stuck, return_exceptions=True)
        assert Counter(map(type, done)) == {type(None): 8, PoolShareInUse: 6}
        await work("ua")
    assert (shares_of(ten).held, shares_of(ten).waiting) == ({}, {})


async def test_a_nested_session_beyond_the_share_is_refused_at_once(
    database_urls: DatabaseUrls,
) -> None:
    database = Database(tenant_url=database_urls.tenant, tenant_pool_size=1)

    async def nest() -> None:
        async with tenant_session() as outer:
            await outer.execute(text("select 1"))
            async with tenant_session() as inner:
                await inner.execute(text("select 1"))

    with within(database, "ua"):
        async with asyncio.timeout(20):
            with pytest.raises(PoolShareExceeded, match="tenant ua opened a session inside"):
                await nest()
            # A session that has ended its transaction holds no connection.
            async with tenant_session() as outer:
                await outer.execute(text("select 1"))
                await outer.commit()
                async with tenant_session() as inner:
                    await inner.execute(text("select 1"))
    assert shares_of(database).held == {}
    await database.dispose()


async def test_a_platform_session_inside_one_is_refused_rather_than_waited_for(
    database_urls: DatabaseUrls,
) -> None:
    database = Database(platform_url=database_urls.platform, platform_pool_size=1)

    async def nest() -> None:
        async with database.platform_session("outer") as outer:
            await outer.execute(text("select 1"))
            async with database.platform_session("inner") as inner:
                await inner.execute(text("select 1"))

    async with asyncio.timeout(20):
        with pytest.raises(PoolShareExceeded, match="the platform opened a session inside"):
            await nest()
    await database.dispose()


async def test_the_platform_may_use_all_of_its_own_pool(database: Database) -> None:
    together = asyncio.Barrier(5)

    async def read() -> None:
        async with database.platform_session("read") as session:
            await session.execute(text("select 1"))
            await together.wait()

    async with asyncio.timeout(20):
        await asyncio.gather(*(read() for _ in range(5)))


async def test_a_connection_that_cannot_be_made_is_no_ones() -> None:
    database = Database(
        tenant_url="postgresql://tenancy_tenant:x@127.0.0.1:1/saas", tenant_pool_size=3
    )
    with within(database, "ua"):
        for _ in range(3):
            with pytest.raises(DatabaseUnreachable):
                async with tenant_session() as session:
                    await session.execute(text("select 1"))
    assert shares_of(database).held == {}
    await database.dispose()


async def test_a_lost_connection_comes_back_to_the_share(
    database: Database, database_urls: DatabaseUrls
) -> None:
    async def lose() -> None:
        async with tenant_session() as session:
            pid = await session.scalar(text("select pg_backend_pid()"))
            with connect(database_urls.superuser) as superuser:
                superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])
            await session.execute(text("select 1"))

    with within(database, "ua"):
        for _ in range(5):
            with pytest.raises(DatabaseUnreachable):
                await lose()
    assert shares_of(database).held == {}


async def test_a_disposed_pool_is_shared_anew(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            await session.execute(text("select 1"))
        await database.dispose()
        async with tenant_session() as session:
            await session.execute(text("select 1"))
            assert shares_of(database).held == {"tenant ua": 1}
            assert shares_of(database).share.size == 5


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_connection_is_lost_to_sessions_that_are_cancelled_at_random(
    database_urls: DatabaseUrls, seed: int
) -> None:
    chance = random.Random(seed)
    database = Database(tenant_url=database_urls.tenant, tenant_pool=PoolShare(4, patience=60))
    shares = shares_of(database)
    ended: Counter[str] = Counter()

    async def session(tenant: str, depth: int) -> None:
        with enter(TenantScope(tenant)):
            async with tenant_session() as opened:
                for _ in range(chance.randint(1, 3)):
                    await opened.execute(text("select 1"))
                    assert all(held <= 2 for held in shares.held.values())
                if depth:
                    await session(tenant, depth - 1)
                if chance.random() < 0.1:
                    await opened.execute(text("select 1 / 0"))

    async def job(tenant: str) -> None:
        try:
            await session(tenant, depth=int(chance.random() < 0.3))
            ended["well"] += 1
        except (DatabaseProblem, DBAPIError) as error:
            ended[type(error).__name__] += 1

    with use_database(database):
        tasks = [asyncio.create_task(job(chance.choice(["ua", "dl", "hp"]))) for _ in range(150)]
        while pending := [task for task in tasks if not task.done()]:
            if chance.random() < 0.2:
                chance.choice(pending).cancel()
            await asyncio.wait(pending, timeout=0.005, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                task.result()
        assert (shares.held, shares.waiting) == ({}, {})
        assert ended["well"] > 0
        assert database.tenant_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await asyncio.gather(*(job(f"t{number}") for number in range(4)))
    await database.dispose()


def test_a_pool_without_room_for_others_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="leaves 2 connections"):
        Database(tenant_url="postgresql://u:p@h/d", tenant_pool=PoolShare(10, reserved=1))


@pytest.mark.parametrize(
    ("at_once", "most"), [(None, 8), (100, 8), (10, 8), (8, 6), (3, 1), (2, 1), (1, 1)]
)
async def test_a_workers_share_leaves_slots_to_others_too(at_once: int | None, most: int) -> None:
    settings = Settings.model_validate(
        {
            "tenant_database_url": "postgresql://u:p@h/d",
            "platform_database_url": "postgresql://u:p@h/d",
        }
    )
    database = configured(settings, at_once=at_once)
    assert shares_of(database).share.most == most

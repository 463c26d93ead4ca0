"""Limits on a tenant's transaction, and the error when it exceeds one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres import open_transactions
from temporal_tenancy.postgres._guarded_connection import TenantConnection
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import (
    Database,
    platform_session,
    tenant_session,
    use_database,
)
from temporal_tenancy.postgres.database_errors import (
    DatabaseProblem,
    DatabaseUnreachable,
    IdleTransaction,
    LockHeld,
    StatementTimeout,
    TransactionTimeout,
)
from temporal_tenancy.postgres.raw_session import RawConnection
from temporal_tenancy.postgres.roles import (
    PLATFORM_ROLE,
    RELAY_ROLE,
    ROLE_LIMITS,
    TENANT_ROLE,
    limit_roles,
)
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.tenant_owned import SESSION_CLOCK
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.postgres import within

SOON = timedelta(milliseconds=150)
LIMITS = SessionLimits()
NAMES = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
)
SHOWN = text("select " + ", ".join(f"current_setting('{name}', true)" for name in NAMES))
A_ROW = "insert into daily_usage values ('ua', '2013-04-01', 1, 0, 0, 0)"
CHANGE = text("update daily_usage set events = events + 1")


@pytest.fixture
async def one(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database with one connection."""
    database = Database(tenant_url=database_urls.tenant, tenant_pool_size=1)
    yield database
    await database.dispose()


@contextmanager
def held_row(urls: DatabaseUrls) -> Iterator[None]:
    """A row of ua's that another transaction has locked."""
    with connect(urls.superuser) as superuser:
        superuser.execute(A_ROW)
        with superuser.transaction():
            superuser.execute("update daily_usage set events = 2")
            yield


async def has(session: AsyncSession, *limits: str) -> bool:
    """Returns whether the session has these limits, as far as the server knows them."""
    shown = tuple((await session.execute(SHOWN)).one())
    return shown == (limits if await counts(session) else (*limits[:3], None))


async def counts(session: AsyncSession) -> bool:
    """Returns whether the server limits transactions: PostgreSQL 17 and newer."""
    version = await session.scalar(text("select current_setting('server_version_num')::int"))
    assert isinstance(version, int)
    return version >= 170000


async def serves(database: Database) -> bool:
    """Returns whether the next session's connection has no limits but its own."""
    async with database.tenant_session() as session:
        return await has(session, "30s", "5s", "30s", "1min")


async def test_every_transaction_has_its_limits(one: Database) -> None:
    with within(one, "ua"):
        async with tenant_session() as session:
            assert await has(session, "30s", "5s", "30s", "1min")
            await session.commit()
            assert await has(session, "30s", "5s", "30s", "1min")
            async with session.begin_nested():
                await session.execute(text("select 1"))
            assert await has(session, "30s", "5s", "30s", "1min")


async def test_a_session_may_have_limits_of_its_own(one: Database) -> None:
    limits = SessionLimits(*(timedelta(seconds=90 + number) for number in range(4)))
    with within(one, "ua"):
        async with tenant_session(limits=limits) as session:
            assert await has(session, "90s", "91s", "92s", "93s")
        assert await serves(one)


async def test_they_are_set_in_the_round_trip_that_names_the_tenant(
    one: Database, database_urls: DatabaseUrls
) -> None:
    with within(one, "ua"):
        async with tenant_session() as session:
            names = NAMES if await counts(session) else NAMES[:3]
            await session.execute(text("select 1"))
            with connect(database_urls.superuser) as superuser:
                (last,) = superuser.execute(
                    "select query from pg_stat_activity where usename = 'tenancy_tenant'"
                ).fetchone() or [""]
            assert last == "select 1"
            await session.rollback()
            await session.connection()
            with connect(database_urls.superuser) as superuser:
                (last,) = superuser.execute(
                    "select query from pg_stat_activity where usename = 'tenancy_tenant'"
                ).fetchone() or [""]
            assert "app.tenant_id" in last
            assert all(name in last for name in names)


async def test_a_statement_that_takes_too_long_is_ended(one: Database) -> None:
    async def sleep() -> None:
        async with tenant_session(limits=replace(LIMITS, statement=SOON)) as session:
            await session.execute(text("select pg_sleep(60)"))

    with within(one, "ua"):
        with pytest.raises(StatementTimeout, match=r"limits=") as caught:
            await sleep()
        assert caught.value.sentence.startswith("StatementTimeout: the server ended a statement")
        assert await serves(one)


async def test_a_lock_that_is_held_too_long_is_given_up(
    one: Database, database_urls: DatabaseUrls
) -> None:
    async def change() -> None:
        async with tenant_session(limits=replace(LIMITS, lock=SOON)) as session:
            await session.execute(CHANGE)

    with within(one, "ua"):
        with held_row(database_urls), pytest.raises(LockHeld, match="locked by another"):
            await change()
        assert await serves(one)
        await change()


async def end_of(session: AsyncSession) -> None:
    """Waits until the server has ended the session's connection."""
    raw = await (await session.connection()).get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    readable = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(driver.fileno(), lambda: readable.cancel())
    try:
        await asyncio.wait((readable,), timeout=10)
    finally:
        asyncio.get_running_loop().remove_reader(driver.fileno())


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (replace(LIMITS, idle=SOON), IdleTransaction),
        (replace(LIMITS, transaction=SOON), TransactionTimeout),
    ],
)
@pytest.mark.parametrize("goes_on", ["with a statement", "to the commit"])
async def test_a_transaction_left_alone_is_ended_and_says_so(
    one: Database, limits: SessionLimits, error: type[DatabaseProblem], goes_on: str
) -> None:
    async def dawdle() -> None:
        async with tenant_session(limits=limits) as session:
            await session.execute(text("select 1"))
            await end_of(session)
            if goes_on == "with a statement":
                await session.execute(text("select 1"))

    with within(one, "ua"):
        with pytest.raises(error):
            await dawdle()
        assert await serves(one)


async def test_a_transaction_of_many_statements_is_ended_too(one: Database) -> None:
    async def work() -> None:
        async with tenant_session(limits=replace(LIMITS, transaction=SOON)) as session:
            while True:
                await session.execute(text("select pg_sleep(0.02)"))

    with within(one, "ua"):
        with pytest.raises(TransactionTimeout, match="Do less in one"):
            await work()
        assert await serves(one)


def cut_connection(driver: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """Loses a connection without a word of the server, as when its last words are lost."""
    with socket.socket(fileno=os.dup(driver.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def end_at(ends: float | None, connection: RawConnection) -> None:
    """Makes the time of the open transaction end then, on the monotonic clock."""
    opened = open_transactions.found(connection)
    assert opened is not None
    if ends is not None:
        opened.ends = ends


LONG_AGO = 0.0
HOUR = 3600.0  # longer than each limit


@pytest.mark.parametrize("goes_on", ["with a statement", "to the commit"])
@pytest.mark.parametrize(
    ("earlier", "error"),
    [
        ((), DatabaseUnreachable),
        (("answered",), IdleTransaction),
        (("began", "answered"), TransactionTimeout),
    ],
)
async def test_a_limit_is_named_although_the_servers_words_are_lost(
    one: Database, earlier: tuple[str, ...], error: type[DatabaseProblem], goes_on: str
) -> None:
    async def work() -> None:
        async with tenant_session() as session:
            await session.execute(text("select 1"))
            driver = (await (await session.connection()).get_raw_connection()).driver_connection
            assert isinstance(driver, TenantConnection)
            assert driver.stamp is not None
            for moment in earlier:
                times = driver.stamp.times
                setattr(times, moment, getattr(times, moment) - HOUR)
            cut_connection(driver)
            if goes_on == "with a statement":
                await session.execute(text("select 1"))

    with within(one, "ua"):
        with pytest.raises(DatabaseProblem) as caught:
            await work()
        assert type(caught.value) is error
        assert await serves(one)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a savepoint"])
@pytest.mark.parametrize(
    ("ends", "error"), [(LONG_AGO, TransactionTimeout), (None, psycopg.OperationalError)]
)
def test_so_it_is_on_a_raw_connection(
    database_urls: DatabaseUrls, ends: float | None, error: type[Exception], inside: bool
) -> None:
    def work(connection: psycopg.Connection[Any]) -> None:
        with (
            tenant_transaction(connection),
            tenant_transaction(connection) if inside else nullcontext(),
        ):
            end_at(ends, connection)
            cut_connection(connection)
            connection.execute("select 1")

    with (
        enter(TenantScope("ua")),
        connect(database_urls.tenant) as connection,
        pytest.raises(error),
    ):
        work(connection)


@pytest.mark.parametrize(
    ("ends", "error"), [(LONG_AGO, TransactionTimeout), (None, psycopg.OperationalError)]
)
async def test_so_it_is_on_a_raw_async_connection(
    database_urls: DatabaseUrls, ends: float | None, error: type[Exception]
) -> None:
    url = make_url(database_urls.tenant).set(drivername="postgresql")
    connection = await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False), autocommit=True
    )

    async def work() -> None:
        async with tenant_transaction(connection):
            end_at(ends, connection)
            cut_connection(connection)
            await connection.execute("select 1")

    async with connection:
        with enter(TenantScope("ua")), pytest.raises(error):
            await work()


async def test_where_the_server_does_not_count_the_client_does(one: Database) -> None:
    long = replace(LIMITS, statement=timedelta(seconds=3))
    short = replace(long, transaction=SOON)

    async def sleep() -> None:
        async with tenant_session(limits=short) as session:
            await session.execute(text("select pg_sleep(60)"))

    async def dawdle() -> None:
        async with tenant_session(limits=short) as session:
            await session.execute(text("select 1"))
            await asyncio.sleep(60)

    with within(one, "ua"):
        assert await serves(one)
        # As in PostgreSQL 16; a newer server has the limit. The engine is the test's own.
        one.tenant_engine.dialect.server_version_info = (16, 4)
        with pytest.raises(TransactionTimeout):
            await sleep()
        with pytest.raises(TransactionTimeout):
            await dawdle()
        async with tenant_session(limits=long) as session:  # a busy machine needs its time
            before = asyncio.get_running_loop().time()
            await session.execute(text("select 1"))
            clock = session.info[SESSION_CLOCK]
            assert clock.timeout.when() >= before + long.transaction.total_seconds()
            await session.commit()
            assert clock.timeout.when() is None
            assert await has(session, "3s", "5s", "30s", "1h")  # the last is the role's
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


@pytest.mark.parametrize("goes_on", ["with a statement", "to the commit"])
async def test_a_cancellation_that_gets_lost_does_not_give_the_transaction_more_time(
    one: Database, database_urls: DatabaseUrls, goes_on: str
) -> None:
    async def work() -> None:
        async with tenant_session(limits=replace(LIMITS, transaction=SOON)) as session:
            await session.execute(text(A_ROW))
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            if goes_on == "with a statement":
                await session.execute(CHANGE)

    with within(one, "ua"):
        assert await serves(one)
        one.tenant_engine.dialect.server_version_info = (16, 4)
        with pytest.raises(TransactionTimeout):
            await work()
    with connect(database_urls.superuser) as superuser:
        assert superuser.execute("select from daily_usage").fetchall() == []


async def test_another_timeout_around_a_session_stays_one(one: Database) -> None:
    with within(one, "ua"):
        await serves(one)
        one.tenant_engine.dialect.server_version_info = (16, 4)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), tenant_session() as session:
                await session.execute(text("select pg_sleep(60)"))


@pytest.mark.parametrize("limit", [timedelta(0), timedelta(seconds=-1), timedelta(days=60)])
def test_a_limit_that_is_none_is_refused(limit: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="lock"):
        SessionLimits(lock=limit)


# The roles' own limits, which are the second wall


@pytest.mark.parametrize("role", [TENANT_ROLE, PLATFORM_ROLE, RELAY_ROLE])
def test_each_role_has_limits_in_this_database(database_urls: DatabaseUrls, role: str) -> None:
    url = {
        TENANT_ROLE: database_urls.tenant,
        PLATFORM_ROLE: database_urls.platform,
        RELAY_ROLE: database_urls.relay,
    }[role]
    with connect(url) as connection:
        known = {name for (name,) in connection.execute("select name from pg_settings")}
        for name, value in ROLE_LIMITS[role].items():
            if name not in known:
                continue  # of a newer server
            assert connection.execute(f"show {name}".encode()).fetchone() == (value,)


async def test_a_platform_session_has_its_roles_limits(database: Database) -> None:
    with use_database(database):
        async with platform_session("look at limits") as session:
            shown = tuple((await session.execute(SHOWN)).one())
            counted = await counts(session)
    assert (shown[0], shown[2], shown[3]) == ("5min", "5min", "15min" if counted else None)


def test_an_owner_who_may_not_alter_the_roles_leaves_them_as_they_are(
    database_urls: DatabaseUrls,
) -> None:
    with connect(database_urls.superuser) as superuser:
        name = superuser.info.dbname
        superuser.execute(f"alter role tenancy_tenant in database {name} set lock_timeout = '7min'")
        superuser.execute("create role other_owner login password 'x'")
        superuser.execute(f"grant connect on database {name} to other_owner")
    owner = make_url(database_urls.owner).set(username="other_owner", password="x")
    with connect(owner.render_as_string(hide_password=False)) as connection:
        limit_roles(connection)
    with connect(database_urls.superuser) as superuser:
        superuser.execute(f"revoke all on database {name} from other_owner")
        superuser.execute("drop role other_owner")
    with connect(database_urls.tenant) as tenant:
        assert tenant.execute("show lock_timeout").fetchone() == ("7min",)


async def test_the_platforms_settings_end_with_its_transaction(
    database_urls: DatabaseUrls,
) -> None:
    settings = {"enable_seqscan": "off", "statement_timeout": "100s"}
    database = Database(platform_url=database_urls.platform, platform_settings=settings)
    show = "select current_setting('enable_seqscan'), current_setting('statement_timeout')"
    async with database.platform_session("look in a test") as session:
        connection = await (await session.connection()).get_raw_connection()
        assert (await session.execute(text(show))).one() == ("off", "100s")
        driver = connection.driver_connection
        assert driver is not None
        await driver.commit()
        after = await (await driver.execute(show)).fetchone()
        await driver.rollback()
    assert after is not None
    assert after[0] == "on"
    assert after[1] != "100s"
    await database.dispose()


async def test_a_platform_statement_that_takes_too_long_is_ended(
    database_urls: DatabaseUrls,
) -> None:
    database = Database(
        platform_url=database_urls.platform, platform_settings={"statement_timeout": "100ms"}
    )

    async def sleep() -> None:
        async with database.platform_session("sleep") as session:
            await session.execute(text("select pg_sleep(60)"))

    with pytest.raises(StatementTimeout):
        await sleep()
    await database.dispose()

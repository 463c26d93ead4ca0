"""What a tenant's transaction promises, under SQL, tasks, threads and cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.errors import NotAwaited, ScopeMissing, TenancyError, TenantMismatch
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.raw_session import RawConnection
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.cancelling import cancelled_after
from tests.fixtures.postgres import within
from tests.fixtures.tables.models import Effect
from tests.library.postgres.test_tenant_transactions import Door, opened, plain

NAME: Final = "transaction_attacks"
NOTE: Final = "insert into effects (tenant_id, subject, note) values (%s, 'a', 'b')"
TENANTS: Final = ("acme", "globex")
HELPER: Final = "attack_helper"  # a role that the tenant role may become
LEFT: Final = """
    select coalesce(current_setting('app.tenant_id', true), ''), current_user = session_user,
        (select count(*) from pg_cursors where is_holdable),
        (select count(*) from pg_class where relnamespace = pg_my_temp_schema()),
        (select count(*) from effects)
"""
NOTHING: Final = ("", True, 0, 0, 0)

shared = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture(scope="module")
def shared_urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    urls = postgres.create_database(NAME, template=migrated_template)
    with connect(urls.superuser) as superuser:
        superuser.execute(f"create role {HELPER}")
        superuser.execute(f"grant {HELPER} to tenancy_tenant")
    yield urls
    postgres.drop_database(NAME)
    with connect(urls.superuser.replace(NAME, "postgres")) as superuser:
        superuser.execute(f"drop role {HELPER}")


@pytest.fixture
def urls(shared_urls: DatabaseUrls) -> DatabaseUrls:
    """The module's database, with one row of each tenant."""
    with connect(shared_urls.superuser) as superuser:
        superuser.execute("delete from effects")
        for tenant in TENANTS:
            superuser.execute(NOTE, [tenant])
    return shared_urls


def rows(urls: DatabaseUrls) -> list[str]:
    with connect(urls.superuser) as superuser:
        found = superuser.execute("select tenant_id from effects order by 1").fetchall()
    return [tenant for (tenant,) in found]


async def require_clean(connection: RawConnection) -> None:
    """Fails if the connection is open and shows or keeps anything of a tenant."""
    if connection.closed or connection.info.transaction_status == TransactionStatus.UNKNOWN:
        return
    door = Door(connection)
    try:
        assert door.status is TransactionStatus.IDLE
        assert await door.alone(LEFT) == [NOTHING]
    except psycopg.OperationalError:
        pass  # it was cut


# What the code of a block sends. Errors are caught, as careless code does.
STATEMENTS: Final = [
    *("set app.tenant_id = 'globex'", "set local app.tenant_id = 'globex'"),
    *("set app.tenant_id = 'acme'", "reset app.tenant_id", "reset all", "discard all"),
    *(f"set role {HELPER}", "reset role", "set session authorization default"),
    *("commit", "rollback", "begin", "commit and chain", "savepoint s", "rollback to s"),
    *("declare held cursor with hold for select * from effects", "close all", "select 1 / 0"),
    *("create temporary table kept as select * from effects", "set standard_conforming_strings=0"),
    *("select set_config('app.tenant_id', 'acme', true)", "listen l", "prepare p as select 1"),
]
ENDS: Final = ["well", "an error", "Rollback"]


async def attack(door: Door, statements: Sequence[str], end: str) -> Exception | None:
    """Sends the statements in a block of acme; returns the error that leaves the block."""
    try:
        async with door.block():
            for statement in statements:
                with suppress(psycopg.Error):
                    await door.run(statement)
            if end == "an error":
                raise ValueError(end)
            if end == "Rollback":
                raise psycopg.Rollback
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("autocommit", [True, False])
@given(statements=st.lists(st.sampled_from(STATEMENTS), max_size=6), end=st.sampled_from(ENDS))
@shared
def test_whatever_sql_does_in_a_block_leaves_nothing_on_the_connection(
    urls: DatabaseUrls, kind: str, autocommit: bool, statements: list[str], end: str
) -> None:
    async def run() -> None:
        door = await opened(urls.tenant, kind, autocommit)
        with enter(TenantScope("acme")):
            error = await attack(door, statements, end)
        if error is not None:
            assert isinstance(error, TenancyError | psycopg.Error | ValueError)
        await require_clean(door.connection)
        await door.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["reset all"], TenantMismatch),
        (["reset app.tenant_id"], TenantMismatch),
        (["set app.tenant_id = 'globex'"], TenantMismatch),
        ([f"set role {HELPER}"], TenantMismatch),
        (["commit"], ScopeMissing),
        (["rollback"], ScopeMissing),
        (["commit and chain"], ScopeMissing),
        (["commit", "begin", "select set_config('app.tenant_id', 'acme', true)"], ScopeMissing),
        (["discard all"], psycopg.errors.InFailedSqlTransaction),
        (["savepoint s", "set local app.tenant_id = 'globex'", "rollback to s"], type(None)),
        (["set session authorization default", "reset role"], type(None)),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_sql_that_takes_the_tenant_away_is_noticed_at_the_end(
    urls: DatabaseUrls, kind: str, statements: list[str], expected: type
) -> None:
    door = await opened(urls.tenant, kind)
    with enter(TenantScope("acme")):
        error = await attack(door, statements, "well")
    assert isinstance(error, expected)
    if isinstance(error, TenancyError):
        assert door.connection.closed
    await require_clean(door.connection)
    await door.close()


@pytest.mark.parametrize("end", ["an error", "Rollback"])
@pytest.mark.parametrize(
    "kept",
    [
        *("set app.tenant_id = 'acme'", f"set role {HELPER}"),
        "declare held cursor with hold for select * from effects",
        "create temporary table kept as select * from effects",
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_sql_committed_does_not_outlive_a_block_that_rolls_back(
    urls: DatabaseUrls, kind: str, kept: str, end: str
) -> None:
    door = await opened(urls.tenant, kind)
    with enter(TenantScope("acme")):
        await attack(door, [kept, "commit"], end)
    await require_clean(door.connection)
    await door.close()


async def test_a_pool_that_takes_closed_connections_back_gets_none_of_a_tenant(
    urls: DatabaseUrls,
) -> None:
    pool = ConnectionPool(
        plain(urls.tenant), min_size=1, max_size=1, close_returns=True, kwargs={"autocommit": True}
    )
    with pool:
        with (
            enter(TenantScope("acme")),
            pytest.raises(ScopeMissing),
            pool.connection() as mine,
            tenant_transaction(mine),
        ):
            mine.execute("set app.tenant_id = 'globex'; commit")
        with pool.connection() as next_one:
            await require_clean(next_one)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_commit_that_the_server_refuses_commits_nothing_and_leaves_nothing(
    urls: DatabaseUrls, kind: str
) -> None:
    doors = [await opened(urls.tenant, kind) for _ in range(2)]
    for door in doors:
        await door.run("set default_transaction_isolation = 'serializable'")

    async def both() -> None:
        async with doors[0].block(), doors[1].block():
            for door in doors:
                await door.run("select count(*) from effects")
            for door in doors:
                await door.run(NOTE, "acme")

    with enter(TenantScope("acme")), pytest.raises(psycopg.errors.SerializationFailure):
        await both()
    assert rows(urls) == ["acme", "acme", "globex"]
    for door in doors:
        await require_clean(door.connection)
        await door.close()


@pytest.mark.parametrize("name", ["plain", 'odd "name"'])
async def test_a_cursor_on_the_server_ends_with_the_block(urls: DatabaseUrls, name: str) -> None:
    with psycopg.connect(plain(urls.tenant), autocommit=True) as connection:
        cursor = connection.cursor(name, withhold=True)
        with enter(TenantScope("acme")), tenant_transaction(connection):
            cursor.execute("select * from effects")
        with pytest.raises(psycopg.errors.InvalidCursorName):
            cursor.fetchone()
        await require_clean(connection)
    cursor.close()


async def visit(door: Door, tenant: str, seen: list[str]) -> None:
    """Runs a block of `tenant`, with a block inside it."""
    with enter(TenantScope(tenant)):
        async with door.block():
            for _ in range(3):
                seen += [owner for (owner,) in await door.run("select tenant_id from effects")]
            await door.run(NOTE, tenant)
            async with door.block():
                seen += [owner for (owner,) in await door.run("select tenant_id from effects")]


@given(visits=st.lists(st.sampled_from(TENANTS), min_size=2, max_size=5), pauses=st.integers(0, 99))
@shared
def test_tasks_that_share_a_connection_never_see_anothers_rows(
    urls: DatabaseUrls, visits: list[str], pauses: int
) -> None:
    async def run() -> None:
        door = await opened(urls.tenant, "async")
        seen: list[list[str]] = [[] for _ in visits]

        async def later(number: int) -> None:
            for _ in range(number * pauses):
                await asyncio.sleep(0)
            await visit(door, visits[number], seen[number])

        results = await asyncio.gather(*map(later, range(len(visits))), return_exceptions=True)
        for tenant, found in zip(visits, seen, strict=True):
            assert set(found) <= {tenant}
        for error in filter(None, results):
            assert isinstance(error, TenancyError | psycopg.OperationalError), error
        await require_clean(door.connection)
        await door.close()

    asyncio.run(run())


def test_threads_that_share_a_connection_never_see_anothers_rows(urls: DatabaseUrls) -> None:
    with psycopg.connect(plain(urls.tenant), autocommit=True) as connection:
        door = Door(connection)
        begin = threading.Barrier(4)
        wrong: list[object] = []

        def work(tenant: str) -> None:
            begin.wait()
            for _ in range(20):
                seen: list[str] = []
                try:
                    asyncio.run(visit(door, tenant, seen))
                except (TenancyError, psycopg.Error) as error:
                    # What PostgreSQL refuses after another thread's error is an InternalError.
                    if not isinstance(
                        error, TenancyError | psycopg.OperationalError | psycopg.InternalError
                    ):
                        wrong.append(error)
                if not set(seen) <= {tenant}:
                    wrong.append(seen)

        threads = [threading.Thread(target=work, args=[TENANTS[n % 2]]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


async def test_blocks_of_two_tasks_that_overlap_commit_nothing(urls: DatabaseUrls) -> None:
    door = await opened(urls.tenant, "async")
    first_is_in, second_is_in = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with door.block():
            await door.run(NOTE, "acme")
            first_is_in.set()
            await second_is_in.wait()

    async def second() -> None:
        await first_is_in.wait()
        async with door.block():
            second_is_in.set()
            await door.run(NOTE, "acme")

    with enter(TenantScope("acme")), pytest.raises(NotAwaited, match="overlap"):
        async with door.block():
            results = await asyncio.gather(first(), second(), return_exceptions=True)
    assert [type(result) for result in results] == [NotAwaited, NotAwaited]
    assert rows(urls) == ["acme", "globex"]
    await require_clean(door.connection)
    await door.close()


async def test_a_block_inside_that_outlives_the_outer_one_commits_nothing(
    urls: DatabaseUrls,
) -> None:
    door = await opened(urls.tenant, "async")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with door.block():
            await door.run(NOTE, "acme")
            inside.set()
            await go_on.wait()

    async def outer() -> None:
        async with door.block():
            left_over.append(asyncio.create_task(work()))
            await inside.wait()

    left_over: list[asyncio.Task[None]] = []
    with enter(TenantScope("acme")):
        with pytest.raises(NotAwaited, match="overlap"):
            await outer()
        go_on.set()
        with pytest.raises((TenancyError, psycopg.Error)):
            await left_over[0]
    assert rows(urls) == ["acme", "globex"]
    await require_clean(door.connection)
    await door.close()


async def test_a_block_that_is_cancelled_twice_leaves_no_transaction(urls: DatabaseUrls) -> None:
    """While another task's statement keeps the driver from sending the ROLLBACK."""
    door = await opened(urls.tenant, "async")
    written = asyncio.Event()

    async def work() -> None:
        with enter(TenantScope("acme")):
            async with door.block():
                await door.run(NOTE, "acme")
                written.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await written.wait()
    busy = asyncio.create_task(door.run("select pg_sleep(0.3)"))
    await asyncio.sleep(0.05)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    with suppress(psycopg.Error):
        await busy
    assert rows(urls) == ["acme", "globex"]
    await require_clean(door.connection)
    await door.close()


steps = given(steps=st.integers(0, 300), again=st.integers(0, 20))


@steps
@shared
def test_a_raw_block_may_be_cancelled_at_any_step(
    urls: DatabaseUrls, steps: int, again: int
) -> None:
    async def run() -> None:
        door = await opened(urls.tenant, "async", autocommit=steps % 2 == 0)
        await cancelled_after(visit(door, "acme", []), steps, again)
        await require_clean(door.connection)
        await door.close()

    asyncio.run(run())


@steps
@shared
def test_a_session_may_be_cancelled_at_any_step(urls: DatabaseUrls, steps: int, again: int) -> None:
    async def run() -> None:
        database = Database(tenant_url=urls.tenant, tenant_pool_size=2)

        async def work() -> None:
            with within(database, "acme"):
                async with database.tenant_session() as session:
                    session.add(Effect(subject="a", note="b"))
                    await session.flush()
                    async with session.begin_nested():
                        session.add(Effect(subject="a", note="b"))
                    await session.commit()
                    session.add(Effect(subject="a", note="b"))

        await cancelled_after(work(), steps, again)
        pool: Any = database.tenant_engine.pool
        assert pool.checkedout() == 0
        with within(database, "globex"):
            async with database.tenant_session() as session:
                driver = await session.connection()
                seen = await driver.exec_driver_sql("select distinct tenant_id from effects")
                assert {tenant for (tenant,) in seen} <= {"globex"}
        await database.dispose()

    asyncio.run(run())


async def test_two_tasks_in_one_session_do_not_mix_tenants(database: Database) -> None:
    async def other(session: Any) -> None:
        with enter(TenantScope("globex")):
            await session.connection()

    with within(database, "acme"):
        async with database.tenant_session() as session:
            session.add(Effect(subject="a", note="b"))
            with pytest.raises(TenancyError):
                await asyncio.create_task(other(session))
            await session.flush()

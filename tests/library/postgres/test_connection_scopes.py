"""What is sent on a connection is of the transaction and the scope it is in, whoever sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.errors import ScopeMissing, StatementRefused, TenantMismatch
from temporal_tenancy.postgres._guarded_connection import TenantConnection
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import driver_of, within
from tests.fixtures.turns_of_the_loop import until

TENANT = "select current_setting('app.tenant_id', true)"
ROWS = "select generate_series(1, 1000)"


async def kept_driver(database: Database) -> TenantConnection:
    """Returns the driver's connection of a session that has ended."""
    with within(database, "acme"):
        async with tenant_session() as session:
            return await driver_of(session)


async def test_a_statement_beside_the_first_message_is_checked_like_any(database: Database) -> None:
    driver = await kept_driver(database)
    with within(database, "acme"):
        async with tenant_session() as session:
            first = asyncio.ensure_future(session.connection())
            await until(driver.lock.locked)
            with pytest.raises((StatementRefused, ScopeMissing)):
                await driver.execute("set app.tenant_id = 'globex'")
            await first
            assert await session.scalar(text(TENANT)) == "acme"


@pytest.mark.parametrize("end", [AsyncSession.commit, AsyncSession.rollback])
async def test_a_statement_that_waits_for_the_transactions_end_is_refused(
    database: Database, end: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            ending = asyncio.ensure_future(end(session))
            await until(driver.lock.locked)
            with pytest.raises(ScopeMissing):
                await driver.execute(TENANT)
            await ending


async def test_a_streams_rows_are_not_fetched_in_another_scope(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            cursor = driver.cursor(name="rows")
            await cursor.execute(ROWS)

            async def elsewhere() -> None:
                with within(database, "globex"):
                    await cursor.fetchmany(5)

            with pytest.raises(TenantMismatch):
                await asyncio.create_task(elsewhere(), context=Context())
            assert await cursor.fetchone() == (1,)
            await cursor.close()


async def test_a_copy_does_not_go_on_in_another_scope(database: Database) -> None:
    async def read(copy: psycopg.AsyncCopy) -> None:
        with within(database, "globex"):
            await copy.read()

    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            async with driver.cursor().copy(f"copy ({ROWS}) to stdout") as copy:
                with pytest.raises(TenantMismatch):
                    await asyncio.create_task(read(copy), context=Context())
                assert len([row async for row in copy]) == 1_000


async def test_a_cursor_that_outlives_its_session_sends_nothing_into_the_next(
    database: Database,
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            cursor = driver.cursor(name="rows")
            await cursor.execute(ROWS)
            result = await session.stream(text(ROWS))
    with within(database, "globex"):
        async with tenant_session() as session:
            assert await driver_of(session) is driver
            with pytest.raises(ScopeMissing):
                await cursor.fetchmany(5)
            with pytest.raises(ScopeMissing):
                async for _ in result:
                    pass
            await cursor.close()
            assert await session.scalar(text(TENANT)) == "globex"


@pytest.mark.parametrize(
    "kind", [psycopg.AsyncCursor, psycopg.AsyncClientCursor, psycopg.AsyncRawCursor]
)
async def test_cursors_of_other_kinds_are_refused_too(
    database: Database, kind: type[psycopg.AsyncCursor]
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)

            async def elsewhere() -> None:
                with within(database, "globex"):
                    await kind(driver).execute(TENANT)

            with pytest.raises(TenantMismatch):
                await asyncio.create_task(elsewhere(), context=Context())
    with pytest.raises(ScopeMissing):
        await kind(driver).execute(TENANT)


async def test_a_drivers_block_is_no_way_around(database: Database) -> None:
    driver = await kept_driver(database)
    with within(database, "globex"):
        with pytest.raises(ScopeMissing):
            async with driver.transaction():
                pass
        with pytest.raises(ScopeMissing):
            await driver.tpc_begin("x")


async def test_a_pipeline_does_not_outlive_the_transaction(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            async with driver.pipeline():
                cursor = await driver.execute(TENANT)
                assert await cursor.fetchone() == ("acme",)
                await driver.commit()
                with pytest.raises(ScopeMissing):
                    await driver.execute(TENANT)


async def test_a_pipeline_rolled_back(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            async with driver.pipeline():
                await driver.execute(TENANT)
                await driver.rollback()
                with pytest.raises(ScopeMissing):
                    await driver.execute(TENANT)


async def test_what_a_session_sets_on_the_drivers_connection_ends_with_it(
    database: Database,
) -> None:
    told: list[str | None] = []
    with within(database, "acme"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            driver.row_factory = dict_row
            driver.cursor_factory = psycopg.AsyncCursor
            driver.server_cursor_factory = psycopg.AsyncServerCursor
            driver.prepare_threshold = 0
            driver.add_notice_handler(lambda notice: told.append(notice.message_primary))
            driver.add_notify_handler(lambda notify: told.append(notify.payload))
            await driver.execute("create temp table if not exists pg_temp.told ()")
            await driver.execute("create temp table if not exists pg_temp.told ()")
    assert told == ['relation "told" already exists, skipping']
    with within(database, "globex"):
        async with tenant_session() as session:
            assert await driver_of(session) is driver
            assert (await session.execute(text("select 1, 2"))).all() == [(1, 2)]
            with pytest.raises(StatementRefused):
                await driver.execute("set app.tenant_id = 'acme'")
            for _ in range(2):
                await driver.execute("create temp table if not exists pg_temp.told ()")
            assert driver.prepare_threshold is None
    assert len(told) == 1


@pytest.mark.parametrize("steps", range(4))
async def test_a_commit_that_is_cancelled_leaves_nothing(database: Database, steps: int) -> None:
    async def interrupted() -> None:
        async with tenant_session() as session:
            driver = await driver_of(session)
            await cancelled(session.commit(), driver, steps)
            await driver.execute(TENANT)  # it was done by then

    with within(database, "acme"):
        with pytest.raises((asyncio.CancelledError, ScopeMissing)):
            await interrupted()
        async with tenant_session() as session:
            assert await session.scalar(text(TENANT)) == "acme"


@pytest.mark.parametrize("steps", range(4))
async def test_a_first_message_that_is_cancelled_leaves_nothing(
    database: Database, steps: int
) -> None:
    driver = await kept_driver(database)

    async def interrupted() -> None:
        async with tenant_session() as session:
            try:
                await cancelled(session.connection(), driver, steps)
            except asyncio.CancelledError:
                with pytest.raises((psycopg.OperationalError, ScopeMissing)):
                    await driver.execute(TENANT)
                raise

    with within(database, "acme"):
        with suppress(asyncio.CancelledError):  # it was done by then
            await interrupted()
        async with tenant_session() as session:
            assert await session.scalar(text(TENANT)) == "acme"


async def cancelled(work: Awaitable[object], driver: TenantConnection, steps: int) -> None:
    """Cancels `work`, so many steps of the loop after it has begun to send, and awaits it."""
    task = asyncio.ensure_future(work)
    await until(driver.lock.locked)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await task

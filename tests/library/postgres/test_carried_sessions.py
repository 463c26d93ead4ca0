"""Sessions after the end of their scope or block send nothing and commit nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import date
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.errors import ScopeMissing, TenancyError, TenantMismatch
from temporal_tenancy.core.scope import PlatformScope, TenantScope, current_scope, enter
from temporal_tenancy.postgres.database import (
    Database,
    current_tenant_session,
    platform_session,
    tenant_session,
    use_database,
)
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import driver_of, within
from tests.fixtures.tables.models import DailyUsage
from tests.isolation.leak_hunt.carried_scopes import in_another_context

DAY = date(2013, 4, 1)


def usage(**values: Any) -> DailyUsage:
    return DailyUsage(
        **{"day": DAY, "events": 1, "cancelled": 0, "distance": 0, "air_time": 0} | values
    )


async def days_of(database: Database, tenant: str) -> list[date]:
    with within(database, tenant):
        async with tenant_session() as session:
            return list(await session.scalars(select(DailyUsage.day)))


class Carried:
    """A task that starts inside a scope and ends after it."""

    def __init__(self, before: Callable[[AsyncSession], Awaitable[object]], behind: Any) -> None:
        self.ready, self.released = asyncio.Event(), asyncio.Event()
        self.before, self.behind = before, behind

    async def run(self, opened: Any) -> None:
        async with opened as session:
            await self.before(session)
            self.ready.set()
            await self.released.wait()
            await self.behind(session)


async def put(session: AsyncSession) -> None:
    session.add(usage())
    await session.flush()


async def add(session: AsyncSession) -> None:
    session.add(usage())


async def read(session: AsyncSession) -> None:
    await session.execute(text("select 1"))


async def commit(session: AsyncSession) -> None:
    await session.commit()


async def commit_its_connection(session: AsyncSession) -> None:
    await (await session.connection()).commit()


async def commit_its_driver(session: AsyncSession) -> None:
    await (await driver_of(session)).commit()


async def read_by_its_driver(session: AsyncSession) -> None:
    await (await driver_of(session)).execute("select 1")


async def copy_by_its_driver(session: AsyncSession) -> None:
    cursor = (await driver_of(session)).cursor()
    async with cursor.copy("copy daily_usage (day) from stdin") as copy:
        await copy.write_row((DAY,))


async def nothing(session: AsyncSession) -> None:
    pass


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (nothing, read),  # a transaction begins
        (put, read),  # a transaction continues
        (put, nothing),  # the block commits at its end
        (put, commit),
        (put, commit_its_connection),
        (put, commit_its_driver),
        (put, read_by_its_driver),
        (put, copy_by_its_driver),
        (add, nothing),  # the commit flushes
    ],
)
async def test_a_tenants_session_that_is_open_behind_its_scope_neither_asks_nor_commits(
    database: Database, log_lines: LogLines, before: Any, behind: Any
) -> None:
    carried = Carried(before, behind)
    with within(database, "ua"):
        task = asyncio.create_task(carried.run(tenant_session()))
        await carried.ready.wait()
    carried.released.set()
    with pytest.raises(ScopeMissing, match="closed"):
        await task
    assert await days_of(database, "ua") == []
    # The connection was returned to the pool in a usable state.
    assert log_lines.all("database.connection_discarded") == []
    assert database.tenant_engine.pool.checkedin() == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("behind", [read, commit, nothing])
async def test_the_platforms_session_that_is_open_behind_its_scope_does_neither(
    database: Database, behind: Any
) -> None:
    async def change(session: AsyncSession) -> None:
        await session.execute(text("update tenancy.plans set fairness_weight = 7"))

    carried = Carried(change, behind)
    with use_database(database):
        with enter(PlatformScope("test")):
            task = asyncio.create_task(carried.run(platform_session("test")))
            await carried.ready.wait()
        carried.released.set()
        with pytest.raises(ScopeMissing, match="closed"):
            await task
        async with platform_session("test") as session:
            changed = text("select count(*) from tenancy.plans where fairness_weight = 7")
            assert await session.scalar(changed) == 0


async def test_a_session_is_not_committed_by_another_tenants_code(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            await put(session)
            with pytest.raises(TenantMismatch, match="It was rolled back"):
                await in_another_context(as_tenant("dl", session.commit()))
            await session.rollback()
    assert await days_of(database, "ua") == []


async def as_tenant(tenant: str, doing: Awaitable[object]) -> None:
    with enter(TenantScope(tenant)):
        await doing


async def test_a_session_is_not_begun_again_behind_its_block(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            await read(session)
        with pytest.raises(InvalidRequestError, match="permanently closed"):
            await read(session)
    async with database.platform_session("test") as session:
        await read(session)
    with pytest.raises(InvalidRequestError, match="permanently closed"):
        await read(session)
    for engine in (database.tenant_engine, database.platform_engine):
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_session_that_has_ended_is_nobodys_current_one(database: Database) -> None:
    released = asyncio.Event()

    async def work() -> None:
        await released.wait()
        current_tenant_session()

    with within(database, "ua"):
        async with tenant_session():
            task = asyncio.create_task(work())
        released.set()
        with pytest.raises(ScopeMissing, match="tenant_session\\(\\) belongs to a block"):
            await task


# Generators


async def rows(seen: list[AsyncSession | None]) -> AsyncGenerator[int, None]:
    """An ordinary generator that reads in its own session."""
    async with tenant_session() as session:
        seen.append(await current_session_of_a_function())
        assert seen[-1] is session
        for row in await session.scalars(text("select generate_series(1, 3)")):
            yield row


async def current_session_of_a_function() -> AsyncSession:
    return current_tenant_session()


async def test_a_generators_session_is_not_its_callers_also_after_a_break(
    database: Database,
) -> None:
    seen: list[AsyncSession | None] = []
    with within(database, "ua"):
        async with tenant_session() as own:
            async with aclosing(rows(seen)) as each:
                async for row in each:
                    assert current_tenant_session() is own
                    if row == 2:
                        break
                assert current_tenant_session() is own
                async with tenant_session() as inner:
                    await each.aclose()  # after the caller's next block
                    assert current_tenant_session() is inner
                assert current_tenant_session() is own
            await put(own)
        async for _ in rows(seen):
            with pytest.raises(ScopeMissing, match=r"no tenant_session\(\) is open"):
                current_tenant_session()
        with pytest.raises(ScopeMissing, match=r"no tenant_session\(\) is open"):
            current_tenant_session()
        assert current_scope() == TenantScope("ua")
    assert await days_of(database, "ua") == [DAY]


async def test_a_generator_does_not_leave_its_caller_in_the_platforms_scope(
    database: Database,
) -> None:
    async def plans() -> AsyncGenerator[str, None]:
        async with platform_session("test") as session:
            for plan in await session.scalars(text("select id from tenancy.plans")):
                yield plan

    with use_database(database), pytest.raises(ScopeMissing, match="the generator plans"):
        await anext(plans())
    assert current_scope() is None


# Concurrent work inside


async def test_work_side_by_side_in_a_scope_is_all_its(database: Database) -> None:
    async def work(day: int) -> None:
        async with tenant_session() as session:
            session.add(usage(day=date(2013, 4, day)))

    with within(database, "ua"):
        await asyncio.gather(*map(work, range(1, 4)))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work(4))
    assert len(await days_of(database, "ua")) == 4


async def test_a_task_that_is_cancelled_with_its_scope_gives_its_connection_back(
    database: Database, log_lines: LogLines
) -> None:
    """Like `gather`: cancels its tasks without waiting until they have ended."""
    began = asyncio.Event()

    async def work() -> None:
        async with tenant_session() as session:
            await put(session)
            began.set()
            await asyncio.Event().wait()

    with within(database, "ua"):
        task = asyncio.create_task(work())
        await began.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert database.tenant_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert log_lines.all("database.connection_discarded") == []
    assert await days_of(database, "ua") == []


async def test_a_refusal_is_a_tenancy_error_that_is_not_tried_again() -> None:
    released = asyncio.Event()

    async def work() -> Any:
        await released.wait()
        return current_scope()

    with enter(TenantScope("ua")):
        task = asyncio.create_task(work())
    released.set()
    with pytest.raises(TenancyError) as refused:
        await task
    assert (refused.value.type, refused.value.non_retryable) == ("ScopeMissing", True)

"""Scopes that are carried out of their block: by tasks, threads, callbacks and generators.

Each begins in the scope of the step's other tenant, and continues when the code runs for the
step's own tenant.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres.database import Database, platform_session, tenant_session
from tests.fixtures.postgres import within
from tests.isolation.leak_hunt.actions import carried
from tests.isolation.leak_hunt.expectations import foreign_row_put
from tests.isolation.leak_hunt.model import REFUSED, Rows, Step

PUT = text("""
    insert into daily_usage values
        (current_setting('app.tenant_id'), :day, :events, :cancelled, :distance, :air_time)
    on conflict (tenant_id, day) do update set events = excluded.events
""")


async def in_another_context(doing: Coroutine[Any, Any, object]) -> object:
    """Runs a coroutine in an empty context, which carries no scope."""
    return await asyncio.create_task(doing, context=Context())


def refused(rows: Rows, step: Step) -> object:
    return REFUSED


async def put(step: Step) -> None:
    async with tenant_session() as session:
        await session.execute(PUT, step.values)


async def read(step: Step) -> None:
    async with tenant_session() as session:
        await session.execute(text("select count(*) from daily_usage"))


async def put_when(released: asyncio.Event, step: Step) -> None:
    await released.wait()
    await put(step)


async def for_its_own(database: Database, step: Step, doing: Awaitable[object]) -> None:
    with within(database, step.tenant):
        await doing


@carried(refused)
async def task_behind_its_scope(database: Database, step: Step) -> None:
    released = asyncio.Event()
    with within(database, step.other):
        task = asyncio.create_task(put_when(released, step))
    released.set()
    await for_its_own(database, step, task)


@carried(refused)
async def consumer_behind_its_scope(database: Database, step: Step) -> None:
    """A consumer that its first caller starts, and that then works for the next one."""
    asked: asyncio.Queue[Callable[[Step], Awaitable[object]]] = asyncio.Queue()

    async def consume() -> None:
        while True:
            await (await asked.get())(step)
            asked.task_done()

    with within(database, step.other):
        consumer = asyncio.create_task(consume())
        asked.put_nowait(read)
        await asked.join()
    asked.put_nowait(put)
    await for_its_own(database, step, consumer)


@carried(refused)
async def thread_behind_its_scope(database: Database, step: Step) -> None:
    released, loop = threading.Event(), asyncio.get_running_loop()

    def work() -> None:
        assert released.wait(10)
        asyncio.run_coroutine_threadsafe(put(step), loop).result(10)

    with within(database, step.other):
        task = asyncio.create_task(asyncio.to_thread(work))
    released.set()
    await for_its_own(database, step, task)


@carried(refused)
async def callback_behind_its_scope(database: Database, step: Step) -> None:
    with within(database, step.other):
        context = copy_context()
    await for_its_own(database, step, asyncio.create_task(put(step), context=context))


async def put_and_wait(step: Step, put_it: asyncio.Event, released: asyncio.Event) -> None:
    async with tenant_session() as session:
        await session.execute(PUT, step.values)
        put_it.set()
        await released.wait()


@carried(refused)
async def commit_behind_its_scope(database: Database, step: Step) -> None:
    put_it, released = asyncio.Event(), asyncio.Event()
    with within(database, step.other):
        task = asyncio.create_task(put_and_wait(step, put_it, released))
        await put_it.wait()
    released.set()
    await for_its_own(database, step, task)


@carried(refused)
async def statement_behind_its_session(database: Database, step: Step) -> object:
    opened: list[AsyncSession] = []
    with within(database, step.other):
        async with tenant_session() as session:
            opened.append(session)
    with within(database, step.tenant):
        try:
            await opened[0].execute(PUT, step.values)
            await opened[0].commit()
        except InvalidRequestError:
            return REFUSED
    return None


@carried(refused)
async def generator_that_enters_a_scope(database: Database, step: Step) -> None:
    async def entered() -> AsyncIterator[None]:
        with enter(TenantScope(step.other)):
            yield

    async def work() -> None:
        async for _ in entered():
            break
        await put(step)

    with within(database, step.tenant):
        await work()


@carried(foreign_row_put)
async def another_scope_inside(database: Database, step: Step) -> None:
    with within(database, step.tenant), enter(TenantScope(step.other)):
        await put(step)


@carried(refused)
async def platforms_session_inside(database: Database, step: Step) -> None:
    with within(database, step.tenant):
        async with platform_session("look around"):
            await put(step)

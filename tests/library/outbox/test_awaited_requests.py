"""What a block asks of the outbox is awaited before the block commits, or nothing is committed."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy import outbox
from temporal_tenancy.core.errors import NotAwaited
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.outbox import (
    cancel,
    enqueue,
    enqueue_in,
    enqueue_many,
    enqueue_many_in,
    enqueue_or_find,
    once,
    once_each,
    once_in,
    reschedule,
)
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.postgres import within
from tests.fixtures.relay import ask, messages_of
from tests.library.outbox.test_relay import plain_url
from tests.library.outbox.test_requests import FAR, NOTE

Connection = psycopg.AsyncConnection[Any]
Session = AsyncSession | Connection
Call = Callable[[Any], Coroutine[Any, Any, Any]]

IN_A_SESSION: Final[dict[str, Call]] = {
    "enqueue": lambda _: enqueue("test.note", {}),
    "enqueue_many": lambda _: enqueue_many("test.note", [{}, {}]),
    "enqueue_or_find": lambda _: enqueue_or_find("test.note", {}),
    "once": lambda session: once(session, "consumer", "e1"),
    "once_each": lambda session: once_each(session, "consumer", ["e1"]),
    "cancel": lambda _: cancel(NOTE),
    "reschedule": lambda _: reschedule(NOTE, FAR),
}


def _one(connection: Connection) -> Coroutine[Any, Any, Any]:
    return enqueue_in(connection, "test.note", {})


def _several(connection: Connection) -> Coroutine[Any, Any, Any]:
    return enqueue_many_in(connection, "test.note", [{}])


def _event(connection: Connection) -> Coroutine[Any, Any, Any]:
    return once_in(connection, "consumer", "e1")


ON_A_CONNECTION: Final[dict[str, Call]] = {
    "enqueue_in": _one,
    "enqueue_many_in": _several,
    "once_in": _event,
}
CALLS: Final = {**IN_A_SESSION, **ON_A_CONNECTION}
COUNT: Final = "select count(*) from tenancy.processed_events"

pytestmark = pytest.mark.usefixtures("two_tenants")


@pytest.fixture
def block(database: Database, database_urls: DatabaseUrls) -> Callable[[str], Any]:
    """Opens the block that a call belongs to, and writes a row in it."""

    @asynccontextmanager
    async def open_for(name: str) -> AsyncIterator[Session]:
        row = "insert into tenancy.processed_events (tenant_id, consumer, event_id) "
        row += f"values ('acme', 'row', '{uuid4()}')"
        if name in IN_A_SESSION:
            with within(database, "acme"):
                async with tenant_session() as session:
                    await session.execute(text(row))
                    yield session
            return
        url = plain_url(database_urls.tenant)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            with enter(TenantScope("acme")):
                async with tenant_transaction(connection):
                    await connection.execute(row.encode())
                    yield connection

    return open_for


def test_every_call_that_joins_a_transaction_is_tried_here() -> None:
    joining = set()
    for name in outbox.__all__:
        found = getattr(outbox, name)
        if inspect.isfunction(found) and not inspect.iscoroutinefunction(found):
            returned = str(typing.get_type_hints(found)["return"])
            if "Coroutine" in returned:
                joining.add(name)
    assert joining == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_is_not_awaited_rolls_its_block_back(
    block: Callable[[str], Any], database: Database, name: str
) -> None:
    await ask(database, "acme", key="k")
    with pytest.raises(NotAwaited, match=rf"{name}\(.*not awaited to its end.* rolled back"):
        async with block(name) as session:
            CALLS[name](session)  # type: ignore[unused-coroutine]
    [message] = await messages_of(database, "acme")
    assert message.scheduled_at != FAR
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await session.scalar(text(COUNT)) == 0


async def in_a_task(work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.create_task(work)


async def in_a_group(work: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work)


async def gathered(work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.gather(work, asyncio.sleep(0))


async def in_time(work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait_for(work, 30)


async def later(work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.sleep(0)
    await work


@pytest.mark.parametrize("name", ["enqueue", "enqueue_in"])
async def test_however_it_is_awaited_it_is_in_the_transaction(
    block: Callable[[str], Any], database: Database, name: str
) -> None:
    for number, wait in enumerate((in_a_task, in_a_group, gathered, in_time, later), 1):
        async with block(name) as session:
            await wait(CALLS[name](session))
        assert len(await messages_of(database, "acme")) == number


async def cancelled_before_it_begins(work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.create_task(work)
    task.cancel()
    await asyncio.wait((task,))


async def closed(work: Coroutine[Any, Any, Any]) -> None:
    work.close()


async def refused(work: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(LookupError):
        work.throw(LookupError("no"))


@pytest.mark.parametrize("name", ["enqueue", "enqueue_in"])
async def test_what_is_dropped_on_purpose_is_not_missed(
    block: Callable[[str], Any], database: Database, name: str
) -> None:
    for drop in (cancelled_before_it_begins, closed, refused):
        async with block(name) as session:
            await drop(CALLS[name](session))
    assert await messages_of(database, "acme") == []


@pytest.mark.parametrize("name", ["enqueue", "enqueue_in"])
async def test_a_task_that_has_not_ended_is_not_awaited(
    block: Callable[[str], Any], database: Database, name: str
) -> None:
    with pytest.raises(NotAwaited):
        async with block(name) as session:
            task = asyncio.create_task(CALLS[name](session))
    await asyncio.wait((task,))
    assert task.exception() is not None
    assert await messages_of(database, "acme") == []


async def test_a_commit_inside_the_block_is_refused_too(database: Database) -> None:
    async def commit_early() -> None:
        async with tenant_session() as session:
            await enqueue("test.note", {})
            enqueue("test.note", {})  # type: ignore[unused-coroutine]
            await session.commit()

    with within(database, "acme"):
        with pytest.raises(NotAwaited):
            await commit_early()
        async with tenant_session() as session:
            async with session.begin_nested():
                request = enqueue("test.note", {}, key="later")
            await request
    assert [each.key for each in await messages_of(database, "acme")] == ["later"]


async def test_a_block_that_fails_fails_with_its_own_error(
    block: Callable[[str], Any], database: Database
) -> None:
    async def fail(name: str) -> None:
        async with block(name) as session:
            work.append(CALLS[name](session))
            raise LookupError("a bug")

    work: list[Coroutine[Any, Any, Any]] = []
    for name in ("enqueue", "enqueue_in"):
        with pytest.raises(LookupError):
            await fail(name)
        work.pop().close()
    assert await messages_of(database, "acme") == []

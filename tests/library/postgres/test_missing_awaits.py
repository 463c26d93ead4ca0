"""A call of a session that nobody awaits is named as the block ends, and nothing is committed."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Final
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.errors import NotAwaited
from temporal_tenancy.postgres._awaited_session import AWAITED
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within

COUNT: Final = text("select count(*) from tenancy.processed_events")
ENDS_IT: Final = {"aclose", "close", "invalidate", "reset"}

pytestmark = pytest.mark.usefixtures("two_tenants")


async def write(session: AsyncSession) -> None:
    row = "insert into tenancy.processed_events (tenant_id, consumer, event_id) "
    await session.execute(text(f"{row} values ('acme', 'row', '{uuid4()}')"))


def called(session: AsyncSession, name: str) -> Any:
    method = getattr(session, name)
    required = [
        each
        for each in inspect.signature(method).parameters.values()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    return method(*[None for _ in required])


def test_every_method_that_has_to_be_awaited_is_tried_here() -> None:
    public = {
        name
        for name, method in inspect.getmembers(AsyncSession, inspect.isfunction)
        if inspect.iscoroutinefunction(method) and not name.startswith("_")
    }
    assert set(AWAITED) == public - ENDS_IT
    assert {"execute", "scalar", "scalars", "stream", "get", "flush", "commit"} <= set(AWAITED)


@pytest.mark.parametrize("name", AWAITED)
async def test_a_call_that_is_not_awaited_rolls_its_block_back(
    database: Database, name: str
) -> None:
    place = r"\(tests/library/postgres/test_missing_awaits\.py, line \d+, in called\)"
    with within(database, "acme"):
        with pytest.raises(NotAwaited, match=rf"session\.{name}\(\) {place} was called"):  # noqa: PT012
            async with tenant_session() as session:
                await write(session)
                lost = called(session, name)
        async with tenant_session() as session:
            assert await session.scalar(COUNT) == 0
    assert inspect.iscoroutine(lost) or lost is not None


async def test_a_platforms_session_does_so_too(database: Database) -> None:
    with pytest.raises(
        NotAwaited, match=r"session\.execute\(\) \(tests/.*/test_missing_awaits\.py"
    ):
        async with database.platform_session("a test") as session:
            rows = session.execute(text("select 1"))
    assert rows is not None


async def test_a_call_counts_as_awaited_however_it_is(database: Database) -> None:
    one = text("select 1")
    with within(database, "acme"):
        async with tenant_session() as session:
            await write(session)
            assert await asyncio.create_task(session.scalar(one)) == 1
            [found] = await asyncio.gather(session.scalar(one))
            assert found == 1
            async with asyncio.timeout(10):
                assert await session.scalar(one) == 1
            later = session.scalar(one)
            never = asyncio.ensure_future(session.scalar(one))
            never.cancel()
            assert await later == 1
            with pytest.raises(asyncio.CancelledError):
                await never
            async with session.begin_nested():
                await write(session)
            await session.commit()
        async with tenant_session() as session:
            assert await session.scalar(COUNT) == 2


async def test_an_error_of_the_block_is_the_one_that_is_raised(database: Database) -> None:
    with within(database, "acme"), pytest.raises(KeyError, match="own"):  # noqa: PT012
        async with tenant_session() as session:
            lost = session.execute(text("select 1"))
            lost.close()  # or Python warns of it
            raise KeyError("own")

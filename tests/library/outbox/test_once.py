"""Events that come again are dealt with once, in the transaction of their effect."""

from __future__ import annotations

import asyncio

from temporal_tenancy.outbox import once
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.held_locks import until_waiting
from tests.fixtures.modes import Where
from tests.fixtures.postgres import within


async def test_an_event_is_dealt_with_once_by_each_consumer_of_each_tenant(
    database: Database,
) -> None:
    async def seen(tenant: str, consumer: str) -> bool:
        with within(database, tenant):
            async with tenant_session() as session:
                return await once(session, consumer, "event-1")

    assert await seen("acme", "mail") is True
    assert await seen("acme", "mail") is False
    assert await seen("acme", "search") is True
    assert await seen("globex", "mail") is True


async def test_an_event_whose_effect_is_rolled_back_is_dealt_with_again(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await once(session, "mail", "event-1")
            await session.rollback()
        async with tenant_session() as session:
            assert await once(session, "mail", "event-1")


async def test_of_two_at_once_the_second_waits_and_does_nothing(
    database: Database, where: Where
) -> None:
    first_has_it = asyncio.Event()
    second_waits = asyncio.Event()

    async def first() -> bool:
        with within(database, "acme"):
            async with tenant_session() as session:
                mine = await once(session, "mail", "event-1")
                first_has_it.set()
                await second_waits.wait()
                return mine

    async def second() -> bool:
        await first_has_it.wait()
        with within(database, "acme"):
            async with tenant_session() as session:
                asking = asyncio.create_task(once(session, "mail", "event-1"))
                await until_waiting(where("acme")[0].superuser)
                second_waits.set()
                return await asking

    assert tuple(await asyncio.gather(first(), second())) == (True, False)

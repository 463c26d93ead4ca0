"""A tenant with too many rows for a claim, or very many locked ones, delays no other tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.outbox import Relay, RelayOptions, RetryLadder, Unit, enqueue_many, start_unit
from temporal_tenancy.outbox.relay import _upkeep as upkeep
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.relay import ask, messages_of, running, until_messages

MakeRelay = Callable[..., Relay]
IN_TIME = 12.0  # seconds: the relay role's statement timeout is longer
LIMIT = timedelta(seconds=0.4)
LOST = 16

pytestmark = pytest.mark.usefixtures("two_tenants")

# Simulates reading past very many locked rows for as long as a test needs.
_SLOW = """
    create function takes_long() returns trigger language plpgsql as $$
    begin
        perform pg_sleep(60);
        return new;
    end $$;
    create trigger takes_long before update on tenancy.outbox_messages for each row
        when (new.tenant_id = 'acme' and old.status <> 'processing') execute function takes_long()
"""


async def nowhere(client: Client, unit: Unit, ladder: RetryLadder) -> None:
    """Delivers nothing."""


async def until_completed(database: Database, tenant: str) -> None:
    await until_messages(database, tenant, lambda ms: {m.status for m in ms} == {"completed"})


async def test_a_claim_that_takes_long_for_one_tenant_delays_no_other(
    database: Database, make_relay: MakeRelay, database_urls: DatabaseUrls
) -> None:
    relay = make_relay(deliver=nowhere, claim_limit=LIMIT)
    with connect(database_urls.superuser) as superuser:
        superuser.execute(_SLOW.encode())
        await ask(database, "acme", key="slow")
        async with running(relay):
            async with asyncio.timeout(IN_TIME):
                for number in range(5):
                    await ask(database, "globex", key=f"k{number}")
                    await until_completed(database, "globex")
            assert "acme" in relay._quarantine
            assert [m.status for m in await messages_of(database, "acme")] == ["pending"]
            superuser.execute("drop trigger takes_long on tenancy.outbox_messages")
            await until_completed(database, "acme")
            assert "acme" in relay._quarantine  # it would happen again


async def lose(relay_database: Database, tenant: str, how_many: int) -> None:
    """Claims a tenant's messages, like a relay that dies while it handles them."""
    async with relay_database.platform_session("a relay that dies") as session:
        assert len(await queue.claim(session, {tenant: how_many}, lease=timedelta(0))) == how_many


@pytest.mark.parametrize("page", [RelayOptions().lost_page, 7])
async def test_what_one_tenant_has_lost_delays_no_others(
    database: Database,
    make_relay: MakeRelay,
    relay_database: Database,
    database_urls: DatabaseUrls,
    page: int,
) -> None:
    started: list[str] = []

    async def deliver(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        started.append(unit.tenant_id)

    with within(database, "acme"):
        async with tenant_session():
            await enqueue_many("test.note", [{}] * LOST)
    await lose(relay_database, "acme", LOST)
    with connect(database_urls.superuser) as superuser:
        superuser.execute("""
            update tenancy.outbox_messages as m set lease_until = now() - nth * interval '1 minute'
            from (select id, row_number() over () as nth from tenancy.outbox_messages) as each
            where m.id = each.id
        """)
    await ask(database, "globex", key="k")
    await lose(relay_database, "globex", 1)
    async with running(make_relay(deliver=deliver, lost_page=page)):
        await until_completed(database, "globex")
        await until_completed(database, "acme")
    # Some of each in a round, or all of the first pages.
    assert started.index("globex") <= (1 if page > LOST else LOST)
    assert len(started) == LOST + 1


async def test_no_duty_waits_for_another(
    database: Database, make_relay: MakeRelay, relay_database: Database
) -> None:
    holds, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        if unit.tenant_id == "acme":
            holds.set()
            await go_on.wait()

    await ask(database, "acme", key="lost")
    await lose(relay_database, "acme", 1)
    async with running(make_relay(deliver=deliver, keep_completed=timedelta(0))):
        await holds.wait()
        await ask(database, "globex", key="k")
        async with asyncio.timeout(IN_TIME):
            await until_messages(database, "globex", lambda ms: not ms)  # completed and deleted
        go_on.set()


async def test_a_lost_message_whose_workflow_is_there_is_completed_and_no_dead_letter(
    database: Database,
    make_relay: MakeRelay,
    relay_database: Database,
    relay_client: Client,
    database_urls: DatabaseUrls,
) -> None:
    for key in ("started", "never"):
        await ask(database, "acme", key=key)
    async with relay_database.platform_session("a relay that dies") as session:
        taken = await queue.claim(session, {"acme": 2}, lease=timedelta(0))
    [there] = [each for each in taken if each.key == "started"]
    await start_unit(relay_client, Unit(str(there.own_id), [there]), RetryLadder())
    with connect(database_urls.superuser) as superuser:
        superuser.execute(
            "update tenancy.outbox_messages set attempts = 9"
        )  # its marks were locked
        async with running(make_relay()):
            found = await until_messages(
                database, "acme", lambda ms: {m.status for m in ms} <= {"completed", "dead_letter"}
            )
        assert {m.key: (m.status, m.error_type) for m in found} == {
            "started": ("completed", None),
            "never": ("dead_letter", "RelayLost"),
        }
        letters = superuser.execute("select workflow_id from tenancy.dead_letters").fetchall()
    assert letters == [("acme/test.note/never",)]


def test_a_round_has_some_messages_of_each_tenant_in_turn() -> None:
    many = [("acme", uuid4()) for _ in range(30)]
    few = [("globex", uuid4()) for _ in range(2)]
    found = upkeep._in_turn([*many, *few])
    assert found[:4] == [many[0], few[0], many[1], few[1]]
    assert len(found) == upkeep.LOST_AT_ONCE + 2

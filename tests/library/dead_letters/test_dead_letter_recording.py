"""Each failure writes one dead letter, by the tenant's worker or by the relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.payloads import PAYLOAD_MAX_BYTES
from temporal_tenancy.dead_letters.recording import Letter, Payload, Source, put_letters, record
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_urls import database_url
from tests.fixtures.hostile_json import in_lists
from tests.fixtures.postgres import within

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)
MESSAGE = UUID("0198a1b2-0000-7000-8000-00000000000a")


def failed(
    key: str = "1",
    *,
    tenant: str = "acme",
    run: str | None = "r1",
    at: datetime | None = NOON,
    **others: Any,
) -> Letter:
    return Letter(
        f"{tenant}/mail.send/{key}",
        others.pop("source", Source.WORKFLOW),
        "MailboxFull",
        "the mailbox 'x@example.org' is full.",
        attempts=3,
        run_id=run,
        failed_at=at,
        **others,
    )


async def record_as(
    database: Database, letter: Letter, payload: Payload | None = None, tenant: str = "acme"
) -> bool:
    with within(database, tenant):
        async with tenant_session() as session:
            return await record(session, letter, payload)


async def rows(database: Database, query: str, **given: Any) -> Sequence[Any]:
    async with database.platform_session("test") as session:
        return (await session.execute(text(query), given)).all()


async def messages(database: Database, tenant: str = "acme") -> Sequence[Any]:
    query = "select id, job, key, payload, status, error_type from tenancy.outbox_messages"
    with within(database, tenant):
        async with tenant_session() as session:
            return (await session.execute(text(query))).all()


@pytest.fixture
async def relay(database_urls: DatabaseUrls) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url(database_urls.relay))
    yield engine
    await engine.dispose()


async def test_a_failure_is_written_once_with_its_input(database: Database) -> None:
    assert await record_as(database, failed(), {"to": "x"})
    assert not await record_as(database, failed(at=LATER), {"to": "x"})
    [letter] = await rows(database, "select * from tenancy.dead_letters")
    assert (letter.tenant_id, letter.job, letter.source) == ("acme", "mail.send", "workflow")
    assert (letter.error_type, letter.attempts, letter.status) == ("MailboxFull", 3, "open")
    assert (letter.failed_at, letter.replays, letter.run_id) == (NOON, 0, "r1")
    [message] = await messages(database)
    assert message == (letter.message_id, "mail.send", "1", {"to": "x"}, "dead_letter",
                       "MailboxFull")  # fmt: skip


async def test_who_write_the_same_at_once_write_one_letter(database: Database) -> None:
    wrote = await asyncio.gather(*(record_as(database, failed(), {"to": "x"}) for _ in range(5)))
    assert sorted(wrote) == [False] * 4 + [True]
    assert len(await messages(database)) == 1


async def test_a_later_failure_opens_the_letter_anew_and_keeps_its_replays(
    database: Database,
) -> None:
    await record_as(database, failed(), {"to": "x"})
    await rows(database, "update tenancy.dead_letters set status = 'replayed', replays = 2, "
               "told_at = now() returning id")  # fmt: skip
    assert await record_as(database, failed(run="r2", at=LATER), {"to": "y"})
    [letter] = await rows(database, "select * from tenancy.dead_letters")
    assert (letter.status, letter.replays, letter.run_id) == ("open", 2, "r2")
    assert (letter.failed_at, letter.told_at) == (LATER, None)
    [message] = await messages(database)
    assert message.payload == {"to": "y"}


async def test_an_older_failure_changes_nothing(database: Database) -> None:
    await record_as(database, failed(run="r2", at=LATER))
    assert not await record_as(database, failed())
    [letter] = await rows(database, "select run_id from tenancy.dead_letters")
    assert letter.run_id == "r2"


async def test_what_a_person_has_discarded_stays_so_when_it_is_seen_again(
    database: Database,
) -> None:
    await record_as(database, failed())
    await rows(database, "update tenancy.dead_letters set status = 'discarded' returning id")
    assert not await record_as(database, failed(at=LATER))
    [letter] = await rows(database, "select status from tenancy.dead_letters")
    assert letter.status == "discarded"


@pytest.mark.parametrize(
    "payload",
    [
        {"to": "x" * PAYLOAD_MAX_BYTES},
        {"to": "a\x00b"},
        {"to": "\ud800"},
        {"rate": float("nan")},
        {"rate": 10**4500},
        {"to": in_lists(0, 200)},
        {"to": in_lists(0, 5_000)},
    ],
    ids=["too large", "NUL", "half a pair", "not a number", "digits", "deep", "very deep"],
)
async def test_an_input_that_no_message_may_hold_is_not_kept(
    database: Database, payload: Payload
) -> None:
    assert await record_as(database, failed(), payload)
    [letter] = await rows(database, "select message_id from tenancy.dead_letters")
    assert letter.message_id is None
    assert await messages(database) == []


async def test_a_backslash_in_an_input_is_no_nul(database: Database) -> None:
    await record_as(database, failed(), {"to": r"a\u0000b"})
    [message] = await messages(database)
    assert message.payload == {"to": r"a\u0000b"}


async def test_an_odd_message_is_written_as_the_database_takes_it(database: Database) -> None:
    letter = Letter("acme/mail.send/1", Source.WORKFLOW, "B\x00", "a\x00\ud800" + "b" * 600, 1)
    assert await record_as(database, letter, {})
    [row] = await rows(database, "select message, error_type from tenancy.dead_letters")
    assert row.message == "a?" + "b" * 498 + "…"
    assert row.error_type == "B"


async def test_the_relay_writes_letters_of_many_tenants_at_once(
    database: Database, relay: AsyncEngine
) -> None:
    def refused(tenant: str, message: UUID, at: datetime) -> Letter:
        return failed(tenant=tenant, run=None, source=Source.RELAY, message_id=message, at=at)

    both = [refused("acme", MESSAGE, NOON), refused("globex", MESSAGE, NOON)]
    for expected in (["acme", "globex"], []):
        async with AsyncSession(relay) as session, session.begin():
            put = await put_letters(session, [*both, both[0]])
            assert sorted(each.tenant_id for each in put) == expected
    async with relay.begin() as connection:  # another message with the same key
        put = await put_letters(connection, [refused("acme", UUID(int=7), LATER)])
    assert [each.message_id for each in put] == [UUID(int=7)]


async def test_a_tenant_sees_and_writes_no_letters_but_its_own(database: Database) -> None:
    await record_as(database, failed(), {"to": "x"})
    with within(database, "globex"):
        async with tenant_session() as session:
            for query in ("select 1 from tenancy.dead_letters", "update tenancy.dead_letters set "
            "status = 'open' "
                          "returning 1", "select 1 from tenancy.outbox_messages"):  # fmt: skip
                assert (await session.execute(text(query))).all() == []
        with pytest.raises(TenantMismatch):
            async with tenant_session() as session:
                await put_letters(session, [failed("2")])
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with tenant_session() as session:
                await session.execute(text("delete from tenancy.dead_letters"))
    assert len(await rows(database, "select 1 from tenancy.dead_letters")) == 1


async def test_the_platform_reads_all_letters_and_no_inputs(database: Database) -> None:
    for tenant in ("acme", "globex"):
        await record_as(database, failed(tenant=tenant), {"to": "x"}, tenant)
    assert len(await rows(database, "select 1 from tenancy.dead_letters")) == 2
    with pytest.raises(ProgrammingError, match="permission denied"):
        await rows(database, "select 1 from tenancy.outbox_messages")

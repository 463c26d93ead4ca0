"""A relay handles the other tenants' messages while one tenant holds rows locked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox import _working as working
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import _mark_writer, queue
from temporal_tenancy.outbox.relay._mark_writer import MarkWriter, RelayMarks
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.held_locks import holding, take
from tests.fixtures.postgres import within
from tests.fixtures.relay import ask, messages_of, running, take_lost, until_messages

MakeRelay = Callable[..., Relay]
IN_TIME = 15.0  # seconds: a blocking lock is held for longer
ALL = "select 1 from tenancy.outbox_messages for update"

pytestmark = pytest.mark.usefixtures("two_tenants")


class Locker:
    """Locks all of acme's rows when its first message is about to start."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = ExitStack()
        self.holds = asyncio.Event()

    async def deliver(self, client: Client, unit: Unit, ladder: RetryLadder) -> None:
        if unit.tenant_id == "acme" and not self.holds.is_set():
            self._stack.enter_context(holding(self._url, "acme", ALL))
            self.holds.set()
        await self.holds.wait()

    def release(self) -> None:
        self._stack.close()


@pytest.fixture
async def locker(database_urls: DatabaseUrls) -> AsyncIterator[Locker]:
    locker = Locker(database_urls.tenant)
    yield locker
    locker.release()


async def until_completed(database: Database, tenant: str) -> None:
    async with asyncio.timeout(IN_TIME):
        await until_messages(
            database, tenant, lambda found: all(m.status == "completed" for m in found)
        )


async def statuses(database: Database, tenant: str) -> set[str]:
    return {message.status for message in await messages_of(database, tenant)}


async def test_the_others_marks_are_written_and_a_locked_tenants_come_later(
    database: Database, make_relay: MakeRelay, locker: Locker
) -> None:
    for tenant in ("acme", "globex"):
        await ask(database, tenant, key="first")
    async with running(make_relay(deliver=locker.deliver)):
        await until_completed(database, "globex")
        for number in range(3):  # acme is now known to hold locks
            await ask(database, "globex", key=f"later{number}")
            await until_completed(database, "globex")
        assert await statuses(database, "acme") == {"processing"}
        locker.release()
        await until_completed(database, "acme")


async def test_a_relay_ends_while_a_tenant_holds_its_rows(
    database: Database, make_relay: MakeRelay, locker: Locker
) -> None:
    await ask(database, "acme", key="first")
    relay = make_relay(deliver=locker.deliver)
    working = asyncio.create_task(relay.run())
    await locker.holds.wait()
    relay.stop()
    async with asyncio.timeout(IN_TIME):
        await working
    assert await statuses(database, "acme") == {"processing"}


async def test_what_was_lost_is_looked_after_beside_a_mark_that_is_locked(
    database: Database, make_relay: MakeRelay, relay_database: Database, locker: Locker
) -> None:
    for tenant in ("acme", "globex"):
        await ask(database, tenant, key="lost")
        async with relay_database.platform_session("a relay that dies") as session:
            await queue.claim(session, {tenant: 1}, lease=timedelta(0))
    async with running(make_relay(deliver=locker.deliver)):
        await locker.holds.wait()
        await until_completed(database, "globex")
        locker.release()
        await until_completed(database, "acme")


async def test_a_letter_that_its_tenant_has_locked_delays_no_other(
    database: Database, make_relay: MakeRelay, database_urls: DatabaseUrls
) -> None:
    async def refuse(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        raise RuntimeError("no")

    unwritten = """
        insert into tenancy.dead_letters
            (tenant_id, job, source, workflow_id, error_type, message, fingerprint, attempts)
        values ('acme', 'test.note', 'relay', 'acme/test.note/k', 'X', 'x', '0123456789abcdef', 1)
    """
    for tenant in ("acme", "globex"):
        await ask(database, tenant, key="k")
    with holding(database_urls.tenant, "acme", unwritten):
        async with (
            running(make_relay(deliver=refuse, ladder=RetryLadder(attempts=1))),
            asyncio.timeout(IN_TIME),
        ):
            await until_messages(database, "globex", lambda ms: ms[0].status == "dead_letter")
            assert await statuses(database, "acme") == {"processing"}
    with connect(database_urls.superuser) as superuser:
        letters = superuser.execute("select workflow_id from tenancy.dead_letters").fetchall()
    assert letters == [("globex/test.note/k",)]


async def test_while_a_whole_table_is_locked_nothing_is_lost_and_no_tenant_quarantined(
    database: Database, make_relay: MakeRelay, database_urls: DatabaseUrls
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        started.set()
        await go_on.wait()

    await ask(database, "globex", key="first")
    relay = make_relay(deliver=deliver)
    async with running(relay):
        await started.wait()
        with psycopg.connect(database_urls.superuser.replace("+psycopg", "")) as superuser:
            # The relay may be inside a transaction.
            lock = "lock table tenancy.outbox_messages in share row exclusive mode"
            await asyncio.to_thread(superuser.execute, lock)
            go_on.set()
            async with asyncio.timeout(IN_TIME):
                await relay._marks.written()
            assert await statuses(database, "globex") == {"processing"}
        await until_completed(database, "globex")
        assert relay._marks._quarantined == {}


async def test_what_is_locked_as_it_is_started_does_not_pile_up_in_the_relay(
    database: Database, make_relay: MakeRelay, database_urls: DatabaseUrls
) -> None:
    asked, batch = 40, 4
    under_way = (
        "select 1 from tenancy.outbox_messages where status = 'processing' for update skip locked"
    )
    started: list[str] = []

    await ask(database, "acme", key="first")
    with holding(database_urls.tenant, "acme") as connection:

        async def deliver(client: Client, unit: Unit, ladder: RetryLadder) -> None:
            if unit.tenant_id == "acme":
                take(connection, under_way)
                started.append(unit.workflow_id)

        async with running(make_relay(deliver=deliver, batch=batch)):
            for number in range(14):
                await ask(database, "globex", key=f"k{number}")
                await until_completed(database, "globex")
                if number == 1:  # acme is now known to hold locks
                    for each in range(asked):
                        await ask(database, "acme", key=f"k{each}")
            assert batch <= len(started) <= 3 * batch
            connection.rollback()
            await until_completed(database, "acme")
    assert len(set(started)) == 1 + asked


async def test_marks_are_counted_before_any_tenant_is_quarantined_too(database: Database) -> None:
    await ask(database, "acme", key="k")
    [asked] = await messages_of(database, "acme")
    taken = Message("acme", asked.id, asked.job, asked.key, "{}", 3, 1, None)
    marks = MarkWriter(database)
    marks.started(Unit(str(taken.own_id), [taken]))
    assert (marks.unwritten("acme"), marks.unwritten("globex")) == (1, 0)


async def test_who_waits_for_marks_in_a_transaction_does_not_hurry_those_after_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def write(_: object, marks: RelayMarks, **_limits: object) -> None:
        sizes.append(len(marks))
        writing.set()
        await go_on.wait()

    monkeypatch.setattr(_mark_writer, "write_marks", write)
    marks = MarkWriter(database)
    work = asyncio.create_task(marks.run())
    taken = [Message("acme", uuid4(), "echo", "k", "{}", 3, 1, None) for _ in range(3)]
    marks.started(Unit("first", taken[:1]))
    await writing.wait()
    waiting = asyncio.create_task(marks.written())
    await asyncio.sleep(0)
    go_on.set()
    await waiting
    for each in taken[1:]:
        marks.started(Unit("later", [each]))
        for _ in range(10):
            await asyncio.sleep(0)
    marks.finish()
    await work
    assert sizes == [1, 2]


async def test_what_is_given_back_late_stays_with_who_has_it_since(
    database: Database, relay_database: Database
) -> None:
    await ask(database, "acme", key="k")
    async with relay_database.platform_session("a relay that is late") as session:
        [first] = await queue.claim(session, {"acme": 1}, lease=timedelta(0))
    async with relay_database.platform_session("another relay") as session:
        since = await take_lost(session, lease=timedelta(minutes=1))
    async with relay_database.platform_session("a relay that is late") as session:
        await queue.release(session, [first])
    [message] = await messages_of(database, "acme")
    assert since is not None
    assert (message.status, message.attempts) == ("processing", since.attempts)


async def test_what_a_relay_fails_late_stays_with_who_has_it_since(
    database: Database, relay_database: Database
) -> None:
    await ask(database, "acme", key="k")
    async with relay_database.platform_session("a relay that is late") as session:
        [first] = await queue.claim(session, {"acme": 1}, lease=timedelta(0))
    async with relay_database.platform_session("another relay") as session:
        await take_lost(session, lease=timedelta(minutes=1))
    async with relay_database.platform_session("a relay that is late") as session:
        assert await queue.RELAY.fail(session, [Failed(first, "X", "x", None)]) == []
    assert await statuses(database, "acme") == {"processing"}


async def test_what_a_workflow_marks_late_stays_with_the_one_that_has_it_since(
    database: Database, relay_database: Database
) -> None:
    for key in ("done", "failed"):
        await ask(database, "acme", "test.small", key=key)
    late, since = (f"acme/test.small/messages-{name}" for name in ("late", "since"))
    lease = timedelta(minutes=1)
    async with relay_database.platform_session("a relay") as session:
        taken = await queue.claim(session, {"acme": 2}, lease=lease)
        await queue.hand_over(session, [Unit(late, taken, coalesced=True)], lease=lease)
    with within(database, "acme"):
        async with tenant_session() as session:
            done, failed = await working.load(session, [each.id for each in taken], late)
    async with relay_database.platform_session("another relay") as session:
        await queue.hand_over(session, [Unit(since, taken, coalesced=True)], lease=lease)
    with within(database, "acme"):
        async with tenant_session() as session:
            marks = Marks([done], [Failed(failed, "X", "x", None)])
            await working.holder(late).write(session, marks, Source.MESSAGE)
    found = {(m.status, m.workflow_id) for m in await messages_of(database, "acme")}
    assert found == {("processing", since)}

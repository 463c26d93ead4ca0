"""What the tenant role may write to the library's tables, and what others then read there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import errors, sql
from sqlalchemy import text

import processes.connect as _connect  # noqa: F401  # registers the jobs
from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.recording import Letter, Source, record
from temporal_tenancy.outbox import OutboxMessage, ProcessedEvent, enqueue, enqueue_many
from temporal_tenancy.outbox import _working as working
from temporal_tenancy.outbox.inspection import backlogs
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.messages import Failed, Unit
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.relay import take_lost

Connection = psycopg.Connection[Any]

MESSAGE: Final[LiteralString] = """
    insert into tenancy.outbox_messages (tenant_id, job, key, payload) values ('ua', 'a.b', 'k',
        '{}')
"""
LETTER: Final[LiteralString] = """
    insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
        fingerprint,
        attempts, failed_at)
    values ('ua', 'a.b', 'relay', 'ua/a.b/k', 'Broken', 'so', '0123456789abcdef', 1, now())
"""
ID: Final = "019b7000-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def shared_urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    yield postgres.create_database("columns", template=migrated_template)
    postgres.drop_database("columns")


@pytest.fixture
def tenant(shared_urls: DatabaseUrls) -> Iterator[Connection]:
    """A plain connection for ua, without the library's client; what it writes is rolled back."""
    with connect(shared_urls.tenant) as connection, connection.transaction(force_rollback=True):
        connection.execute("select set_config('app.tenant_id', 'ua', true)")
        connection.execute(MESSAGE)
        connection.execute(LETTER)
        yield connection


def inserting(column: str, value: str) -> bytes:
    wanted = f"insert into tenancy.outbox_messages (tenant_id, job, key, payload, {column})"
    return f"{wanted} values ('ua', 'a.b', 'k2', '{{}}', {value})".encode()


PLATFORMS: Final = [
    *(
        inserting(column, value)
        for column, value in (
            ("created_at", "now()"),
            ("dequeued_at", "now()"),
            ("last_attempt_at", "now()"),
            ("lease_until", "now()"),
            ("completed_at", "now()"),
            ("workflow_id", "'ua/a.b/messages-1'"),
            ("status", "'processing'"),
            ("status", "'completed'"),
            ("attempts", "2147483647"),
            ("attempts", "-1"),
        )
    ),
    *(
        f"update tenancy.outbox_messages set {assignment}".encode()
        for assignment in (
            "created_at = now()",
            "dequeued_at = now()",
            "correlation_id = 'x'",
            "priority = 1",
            "job = 'c.d'",
            "key = 'other'",
            "id = '019b7000-0000-7000-8000-0000000000aa'",
            "tenant_id = tenant_id",
            "status = 'processing'",
            "lease_until = now()",
            "workflow_id = 'ua/a.b/messages-1'",
            "workflow_id = 'dl/a.b/messages-1'",
            "attempts = 2147483647",
        )
    ),
    *(
        f"update tenancy.dead_letters set {assignment}".encode()
        for assignment in (
            "id = '019b7000-0000-7000-8000-0000000000aa'",
            "workflow_id = 'dl/a.b/k'",
            "job = 'c.d'",
            "status = 'resolved'",
            "status = 'discarded'",
            "replays = 2147483647",
            "handled_at = now()",
            "handled_by = 'ada'",
            "replay_run_id = 'r'",
            "told_at = now()",
        )
    ),
    *(
        f"""
        insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
            fingerprint, attempts, {column})
        values ('ua', 'a.b', 'relay', 'ua/a.b/k2', 'B', 'so', '0123456789abcdef', 1, {value})
        """.encode()
        for column, value in (
            ("id", "'019b7000-0000-7000-8000-0000000000aa'"),
            ("recorded_at", "now()"),
            ("status", "'resolved'"),
            ("replays", "1"),
            ("told_at", "now()"),
            ("handled_by", "'ada'"),
        )
    ),
    b"delete from tenancy.dead_letters",
    b"insert into tenancy.processed_events (tenant_id, consumer, event_id, processed_at) "
    b"values ('ua', 'c', 'e', now())",
]


@pytest.mark.parametrize("statement", PLATFORMS, ids=lambda each: " ".join(each.decode().split()))
def test_the_tenants_role_writes_nothing_that_is_the_platforms(
    tenant: Connection, statement: bytes
) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        tenant.execute(statement)


BEYOND: Final = [
    inserting("scheduled_at", "'infinity'"),
    inserting("scheduled_at", "'-infinity'"),
    inserting("scheduled_at", "'0044-03-15 BC'"),
    inserting("scheduled_at", "'9999-12-31 23:59:59+00'"),
    inserting("correlation_id", "repeat('c', 6 * 1024 * 1024)"),
    inserting("error_message", "repeat('c', 1001)"),
    inserting("id", "gen_random_uuid()"),
    inserting("id", "'ffffffff-ffff-7fff-8000-000000000000'"),
    b"insert into tenancy.outbox_messages (tenant_id, job, key, payload) "
    b"values ('ua', 'a.b', 'k2', to_jsonb(repeat('x', 2000000)))",
    b"insert into tenancy.outbox_messages (tenant_id, job, key, payload) "
    b"values ('ua', repeat('j', 1001), 'k2', '{}')",
    b"update tenancy.dead_letters set failed_at = 'infinity'",
    b"update tenancy.dead_letters set recorded_at = '0044-03-15 BC'",
    b"update tenancy.dead_letters set fingerprint = 'x; rm -rf /'",
    b"update tenancy.dead_letters set message = repeat('m', 1001)",
    b"insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message, "
    b"fingerprint, attempts) values ('ua', 'a.b', 'relay', 'dl/a.b/k', 'B', 'so', "
    b"'0123456789abcdef', 1)",
    b"update tenancy.processed_events set processed_at = 'infinity'",
]


@pytest.mark.parametrize("statement", BEYOND, ids=lambda each: " ".join(each.decode().split()))
def test_what_it_writes_is_within_what_the_platform_reads(
    tenant: Connection, statement: bytes
) -> None:
    tenant.execute("insert into tenancy.processed_events (tenant_id, consumer, event_id)"
                   " values ('ua', 'c', 'e')")  # fmt: skip
    with pytest.raises(errors.CheckViolation):
        tenant.execute(statement)


LOCKS: Final = [
    "row share",
    "row exclusive",
    "share update exclusive",
    "share",
    "share row exclusive",
    "exclusive",
    "access exclusive",
]


@pytest.mark.parametrize("mode", LOCKS)
def test_the_tenants_role_locks_no_table_of_letters(tenant: Connection, mode: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        tenant.execute(f"lock table tenancy.dead_letters in {mode} mode nowait".encode())


async def test_a_row_that_the_orm_adds_by_itself_is_taken(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            message = OutboxMessage(job="a.b", key="k", payload={})
            unnamed = OutboxMessage(job="a.b", payload={})
            event = ProcessedEvent(consumer="c", event_id="e")
            for each in (message, unnamed, event):
                session.add(each)
                await session.flush()
                await session.refresh(each)
            assert (message.status, message.attempts, message.key) == ("pending", 0, "k")
            assert unnamed.key == str(unnamed.id)
            message.payload = {"n": 1}
            await session.flush()


async def test_each_of_many_messages_has_the_id_that_is_answered(database: Database) -> None:
    texts = [f"text {number}" for number in range(240)]
    keys = [each if number % 3 == 0 else None for number, each in enumerate(texts)]
    with within(database, "ua"):
        async with tenant_session() as session:
            inputs = [{"subject": each, "body": each, "reference": each} for each in texts]
            there = await enqueue("notifications.send", inputs[0], key=texts[0])
            ids = await enqueue_many("notifications.send", inputs, keys=keys)
            assert ids[0] == there
            assert len(set(ids)) == len(ids)
            found = {row.id: row for row in await session.execute(
                text("select id, key, payload from tenancy.outbox_messages")
            )}  # fmt: skip
    assert [found[id].payload["subject"] for id in ids] == texts
    assert [found[id].key for id in ids] == [
        key or str(id) for key, id in zip(keys, ids, strict=True)
    ]


async def test_messages_of_one_id_are_each_tenants_own(
    database: Database, relay_database: Database
) -> None:
    for tenant in ("ua", "dl"):
        with within(database, tenant):
            async with tenant_session() as session:
                await session.execute(
                    text("insert into tenancy.outbox_messages (tenant_id, id, job, key, payload)"
                         " values (:tenant, :id, 'a.b', :tenant, '{}')"),
                    {"tenant": tenant, "id": ID},
                )  # fmt: skip
    lease = timedelta(minutes=1)
    async with relay_database.platform_session("test") as session:
        ours, theirs = await queue.claim(session, {"dl": 9, "ua": 9}, lease=lease)
        assert ours.id == theirs.id == UUID(ID)
        mine = ours if ours.tenant_id == "ua" else theirs
        await queue.RELAY.complete(session, [mine])
    states = {}
    for tenant in ("ua", "dl"):
        with within(database, tenant):
            async with tenant_session() as session:
                states[tenant] = await session.scalar(
                    text("select status from tenancy.outbox_messages")
                )
    assert states == {"ua": "completed", "dl": "processing"}


async def test_an_input_is_kept_under_an_id_that_the_table_makes(database: Database) -> None:
    letter = Letter("ua/a.b/k", Source.WORKFLOW, "Broken", "so", 1, run_id="r1")
    with within(database, "ua"):
        async with tenant_session() as session:
            assert await record(session, letter, {"n": 1})
            [(kept, named)] = await session.execute(
                text(
                    "select m.id, l.message_id from tenancy.outbox_messages m, "
                    "tenancy.dead_letters l"
                )
            )
            assert kept == named
            assert kept.version == 7


async def test_a_delay_without_end_is_a_year_and_one_before_now_is_none(
    database: Database, relay_database: Database
) -> None:
    with within(database, "ua"):
        async with tenant_session():
            ids = await enqueue_many(
                "billing.cycle", [{"period": f"2013-0{month}"} for month in (1, 2, 3)]
            )
    workflow_id = "ua/billing.cycle/messages-1"
    async with relay_database.platform_session("test") as session:
        claimed = await queue.claim(session, {"ua": 3}, lease=timedelta(minutes=1))
        unit = Unit(workflow_id, claimed, coalesced=True)
        await queue.hand_over(session, [unit], lease=timedelta(minutes=1))
    delays = [timedelta.max, timedelta.min, timedelta(hours=1)]
    with within(database, "ua"):
        async with tenant_session() as session:
            messages = await working.load(session, ids, workflow_id)
            failed = [
                Failed(message, "Broken", "so", delay)
                for message, delay in zip(messages, delays, strict=True)
            ]
            await working.holder(workflow_id).write(session, Marks(failed=failed), Source.MESSAGE)
        async with tenant_session() as session:
            found = await session.scalars(text(
                "select extract(epoch from scheduled_at - last_attempt_at) from "
                "tenancy.outbox_messages "
                "order by id"
            ))  # fmt: skip
            hours = [round(seconds / 3600) for seconds in found]
    assert hours == [365 * 24, 0, 1] or hours == [366 * 24, 0, 1]


# Any values that PostgreSQL accepts for a column.
TIMES = st.one_of(
    st.sampled_from(["infinity", "-infinity", "4713-01-01 BC", "294276-12-31 23:59:59+00"]),
    st.datetimes().map(str),
    st.integers(2, 290_000).map(lambda year: f"{year:04}-01-01 00:00:00+14"),
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(["dl/a.b/1", "ua/a.b/k", "x" * 1001, "\x1b]0;owned\x07", "", "/", "ua/"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.sampled_from([2**31 - 1, -(2**31), 0, 1_000_000])
)
UUIDS = st.one_of(st.uuids().map(str), st.just(ID))
MESSAGE_VALUES = {
    "id": UUIDS,
    "job": TEXTS,
    "key": TEXTS,
    "priority": st.integers(-(2**15), 2**15 - 1),
    "status": st.sampled_from(["pending", "failed", "processing", "completed", "dead_letter"]),
    "scheduled_at": TIMES,
    "dequeued_at": TIMES,
    "attempts": NUMBERS,
    "last_attempt_at": TIMES,
    "lease_until": TIMES,
    "completed_at": TIMES,
    "workflow_id": TEXTS,
    "error_type": TEXTS,
    "error_message": TEXTS,
    "correlation_id": TEXTS,
    "created_at": TIMES,
}
LETTER_VALUES = {
    "id": UUIDS,
    "job": TEXTS,
    "source": TEXTS,
    "workflow_id": TEXTS,
    "run_id": TEXTS,
    "message_id": UUIDS,
    "error_type": TEXTS,
    "message": TEXTS,
    "fingerprint": TEXTS,
    "attempts": NUMBERS,
    "failed_at": TIMES,
    "recorded_at": TIMES,
    "status": st.sampled_from(["open", "replayed", "resolved", "discarded"]),
    "replays": NUMBERS,
    "told_at": TIMES,
}


def some_of(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(values)), st.none(), max_size=3).flatmap(
        lambda chosen: st.fixed_dictionaries({name: values[name] for name in chosen})
    )


def attempt(tenant: Connection, statement: sql.Composed, values: dict[str, Any]) -> None:
    """Sends a statement that may be refused, and then changes nothing."""
    try:
        with tenant.transaction():
            tenant.execute(statement, values)
    except psycopg.errors.DatabaseError:
        pass


def insertion(table: str, values: dict[str, Any]) -> sql.Composed:
    names, places = map(sql.Identifier, values), map(sql.Placeholder, values)
    return sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier("tenancy", table), sql.SQL(", ").join(names), sql.SQL(", ").join(places)
    )


def change(table: str, values: dict[str, Any]) -> sql.Composed:
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    ]
    return sql.SQL("update {} set {}").format(
        sql.Identifier("tenancy", table), sql.SQL(", ").join(pairs)
    )


@pytest.fixture
def superuser(database_urls: DatabaseUrls) -> Iterator[Connection]:
    with connect(database_urls.superuser) as connection:
        yield connection


@pytest.fixture
def attacker(database_urls: DatabaseUrls) -> Iterator[Connection]:
    with connect(database_urls.tenant) as connection:
        yield connection


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(
    message={"scheduled_at": "-infinity"},
    letter={"failed_at": "infinity"},
    changed={"attempts": 2**31 - 1},
    opened={"recorded_at": "infinity"},
)
@example(message={"attempts": 2**31 - 1}, letter={}, changed={}, opened={})
@example(message={"created_at": "infinity"}, letter={}, changed={}, opened={})
@example(
    message={},
    letter={"workflow_id": "dl/a.b/1"},
    changed={"status": "processing", "lease_until": "0044-03-15 BC"},
    opened={},
)
@given(
    message=some_of(MESSAGE_VALUES),
    letter=some_of(LETTER_VALUES),
    changed=some_of(MESSAGE_VALUES),
    opened=some_of(LETTER_VALUES),
)
async def test_whatever_a_tenants_role_writes_others_are_listed_and_claimed(
    database: Database,
    relay_database: Database,
    superuser: Connection,
    attacker: Connection,
    message: dict[str, Any],
    letter: dict[str, Any],
    changed: dict[str, Any],
    opened: dict[str, Any],
) -> None:
    superuser.execute("delete from tenancy.outbox_messages; delete from tenancy.dead_letters")
    superuser.execute(MESSAGE.replace("'ua", "'dl").encode())
    superuser.execute(LETTER.replace("'ua", "'dl").encode())
    with attacker.transaction():
        attacker.execute("select set_config('app.tenant_id', 'ua', true)")
        sound = {"tenant_id": "ua", "job": "a.b", "key": "k", "payload": "{}"}
        written = sound | message
        attempt(attacker, insertion("outbox_messages", written), written)
        attempt(attacker, insertion("outbox_messages", sound), sound)
        failed: dict[str, Any] = {
            "tenant_id": "ua",
            "job": "a.b",
            "source": "relay",
            "workflow_id": "ua/a.b/k",
            "error_type": "Broken",
            "message": "so",
            "fingerprint": "0123456789abcdef",
        }
        written = failed | {"attempts": 1} | letter
        attempt(attacker, insertion("dead_letters", written), written)
        if changed:
            attempt(attacker, change("outbox_messages", changed), changed)
        if opened:
            attempt(attacker, change("dead_letters", opened), opened)
    lease = timedelta(minutes=1)
    async with database.platform_session("test") as session:
        listed = await letters.latest(session, Filter(), limit=10)
        assert "dl" in {each.tenant_id for each in listed}
        await letters.unsettled(session, after=None, limit=10)
        await letters.depths(session)
        assert "dl/a.b/1" not in await letters.known(session, ["dl/a.b/1", "ua/a.b/k"])
    async with relay_database.platform_session("test") as session:
        assert "dl" in {each.tenant_id for each in await backlogs(session)}
        assert await take_lost(session, lease=lease) is None
        claimed = await queue.claim(session, {"dl": 5, "ua": 5}, lease=lease)
        assert "dl" in {each.tenant_id for each in claimed}
        await queue.release(session, claimed)

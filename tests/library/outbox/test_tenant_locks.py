"""Whatever one tenant locks, no one else waits for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters._telling import tell_of_dead_letters
from temporal_tenancy.dead_letters.alerts import Alert
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.outbox import enqueue
from temporal_tenancy.outbox.inspection import backlogs
from temporal_tenancy.outbox.relay import admission, queue
from temporal_tenancy.outbox.relay._mark_writer import MarkWriter
from temporal_tenancy.outbox.relay._server_settings import SERVER_SETTINGS
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.database_errors import LockHeld
from temporal_tenancy.postgres.session_limits import SessionLimits
from tests.fixtures.held_locks import holding, take
from tests.fixtures.jobs.relay_jobs import Note
from tests.fixtures.postgres import within
from tests.fixtures.relay import take_lost

LOCK_TIMEOUT = timedelta(milliseconds=30)
IN_TIME = 10.0  # seconds: none of these takes a tenth of it, unless it waits
MINUTE = timedelta(minutes=1)

ROWS = [
    f"select 1 from {table} for {strength}"
    for table in ("tenancy.outbox_messages", "tenancy.dead_letters")
    for strength in ("update", "no key update", "share", "key share")
]
CHANGES = [
    "delete from tenancy.outbox_messages",
    "update tenancy.dead_letters set message = 'x'",
    """insert into tenancy.dead_letters
        (tenant_id, job, source, workflow_id, error_type, message, fingerprint, attempts)
        values ('acme', 'test.note', 'relay', 'acme/test.note/new', 'X', 'x',
            '0123456789abcdef', 1)""",
    "insert into tenancy.outbox_messages (tenant_id, job, key, payload) "
    "values ('acme', 'test.note', 'new', '{}')",
]
TABLES = [
    f"lock table {table} in {mode} mode"
    for table in ("tenancy.outbox_messages", "tenancy.dead_letters")
    for mode in ("share row exclusive", "access exclusive")
]
# Parsed but never run, which needs no rights.
PEEKS = [
    f"prepare peek_{table} as update tenancy.{table} set {column} = {column}"
    for table, column in (("locks", "name"), ("in_flight", "since"), ("alerts", "name"))
]
ADVISORY = [
    "select pg_advisory_lock(hashtextextended('globex/admission/slots', 0))",
    "select pg_advisory_lock(hashtextextended('fairness of default', 0))",
    f"select pg_advisory_lock({0x74656E616E6379})",
    "select pg_advisory_xact_lock(n) from generate_series(-50, 50) as n",
]

_FILL = """
    truncate tenancy.outbox_messages, tenancy.dead_letters, tenancy.in_flight, tenancy.alerts;
    insert into tenancy.outbox_messages (
        tenant_id, job, key, payload, status, attempts, lease_until, workflow_id, completed_at
    )
    select tenant, 'test.note', kind || n, '{}', status, 1, lease_until,
        case when kind = 'together' then tenant || '/test.small/messages-1' end, completed_at
    from unnest(array['acme', 'globex']) as tenant, generate_series(1, 2) as n, (values
        ('waiting', 'pending', null::timestamptz, null::timestamptz),
        ('lost', 'processing', now() - interval '1 hour', null),
        ('inhand', 'processing', now() + interval '1 hour', null),
        ('together', 'processing', now() + interval '1 hour', null),
        ('old', 'completed', null, now() - interval '1 day'),
        ('dead', 'dead_letter', null, null)
    ) as given (kind, status, lease_until, completed_at);
    insert into tenancy.dead_letters (
        tenant_id, job, source, workflow_id, error_type, message, fingerprint, attempts, status,
        handled_at, told_at, message_id
    )
    select tenant, 'test.note', 'relay', tenant || '/test.note/' || kind, 'Broken', 'x',
        left(md5(tenant || kind), 16), 1, status, now() - interval '1 year', told_at,
        (select id from tenancy.outbox_messages as m where m.tenant_id = tenant and m.key = letter)
    from unnest(array['acme', 'globex']) as tenant, (values
        ('open', 'open', now(), null), ('untold', 'open', null, null),
        ('again', 'replayed', now(), 'dead1'), ('done', 'resolved', now(), 'dead2')
    ) as given (kind, status, told_at, letter)
"""


@dataclass
class Ground:
    """A database with two tenants and its roles."""

    urls: DatabaseUrls
    relay: Database
    everyone: Database
    superuser: psycopg.Connection[Any]  # does not wait for locks either
    messages: list[Message] = field(default_factory=list, repr=False)

    def fill(self) -> None:
        """Gives both tenants the same rows of every kind."""
        self.superuser.execute(_FILL)
        rows = self.superuser.execute(
            "select tenant_id, id, key, workflow_id from tenancy.outbox_messages order by "
            "tenant_id, id"
        )
        self.messages = [message(*row) for row in rows]

    def of_kind(self, kind: str) -> list[Message]:
        """Returns messages of both tenants, claimed as by a relay."""
        return [each for each in self.messages if each.key.startswith(kind)]


def message(tenant_id: str, id: Any, key: str, workflow_id: str | None) -> Message:
    fields: dict[str, Any] = dict.fromkeys(Message.__dataclass_fields__)
    own = {"tenant_id": tenant_id, "id": id, "job": "test.note", "key": key, "attempts": 1}
    return Message(**(fields | own | {"priority": 3, "workflow_id": workflow_id}))


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Ground]:
    urls = postgres.create_database("held", template=migrated_template)
    relay = Database(
        platform_url=urls.relay,
        platform_settings=SERVER_SETTINGS,
        platform_lock_timeout=LOCK_TIMEOUT,
    )
    everyone = Database(
        tenant_url=urls.tenant, platform_url=urls.platform, platform_lock_timeout=LOCK_TIMEOUT
    )
    with connect(urls.superuser) as superuser:
        superuser.execute("set lock_timeout = '30ms'")
        yield Ground(urls, relay, everyone, superuser)
    await relay.dispose()
    await everyone.dispose()
    postgres.drop_database("held")


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


# The tenants that each serves, as far as it reports them.
Served = set[str] | None


async def _find_waiting(ground: Ground) -> Served:
    async with ground.relay.platform_session("test") as session:
        found = await queue.waiting_tenants(session, after="", limit=10)
        return {each.tenant_id for each in await backlogs(session)} & set(found)


async def _claim(ground: Ground) -> Served:
    async with ground.relay.platform_session("test") as session:
        claimed = await queue.claim(session, {"acme": 1, "globex": 1}, lease=MINUTE)
        wanted = {(tenant, "test.note"): 1 for tenant in ("acme", "globex")}
        claimed += await queue.claim_more(session, wanted, lease=MINUTE)
    return {each.tenant_id for each in claimed}


async def _take_lost(ground: Ground) -> Served:
    found: set[str] = set()
    while True:
        async with ground.relay.platform_session("test") as session:
            lost = await take_lost(session, lease=MINUTE)
        if lost is None:
            return found
        found.add(lost.tenant_id)


async def _ask_after(ground: Ground) -> Served:
    found = set()
    for first in ground.of_kind("together"):
        async with ground.relay.platform_session("test") as session:
            await queue.extend(session, first, lease=MINUTE)
            several = await queue.together_with(session, first)
            await queue.give_back(session, several, error_type="X", error_message="x")
        found |= {each.tenant_id for each in several}
    return found


async def _mark_in_one(ground: Ground) -> Served:
    async with ground.relay.platform_session("test") as session:
        await queue.require_tables(session)
        await queue.RELAY.complete(session, ground.of_kind("inhand"))
    return None


async def _mark(ground: Ground) -> Served:
    marks = MarkWriter(ground.relay)
    writing = asyncio.create_task(marks.run())
    for each in ground.of_kind("inhand"):
        if each.key.endswith("1"):
            marks.started(Unit(str(each.own_id), [each]))
        else:
            marks.failed([Failed(each, "X", "x", wait=None)])
    await marks.written()
    marks.finish()
    await writing
    states = ground.superuser.execute(
        "select tenant_id from tenancy.outbox_messages where key like 'inhand%' "
        "group by tenant_id having array_agg(status order by key) = '{completed,dead_letter}'"
    )
    return {tenant for (tenant,) in states}


async def _write_letters(ground: Ground) -> Served:
    async with ground.relay.platform_session("test") as session:
        await put_letters(
            session,
            [
                Letter(f"{tenant}/test.note/{key}", Source.RELAY, "X", "x", 1)
                for tenant in ("acme", "globex")
                for key in ("new", "open")
            ],
        )
    return None


async def _prune(ground: Ground) -> Served:
    async with ground.relay.platform_session("test") as session:
        await queue.prune(session, keep=MINUTE)
    left = ground.superuser.execute(
        "select tenant_id from tenancy.outbox_messages where key like 'old%'"
    )
    return {"acme", "globex"} - {tenant for (tenant,) in left}


async def _allow(ground: Ground) -> Served:
    records = {
        tenant: Tenant(
            id=tenant,
            name=tenant,
            status=TenantStatus.ACTIVE,
            status_since=datetime.now(UTC),
            plan=Plan(id="free", concurrency_cap=1),
        )
        for tenant in ("acme", "globex")
    }
    async with ground.relay.platform_session("test") as session:
        allowed = await admission.allowances(session, list(records), records, room=9, partial=False)
        slots = [Unit(f"{tenant}/test.note/1", [message(tenant, None, "1", None)], True)
                 for tenant in allowed]  # fmt: skip
        await queue.take_slots(session, slots)
        await queue.slots_to_check(session, age=timedelta(0), limit=9)
        await queue.free_slots(session, [(each.tenant_id, each.workflow_id) for each in slots])
    return set(allowed)


async def _tell(ground: Ground) -> Served:
    inbox = Inbox()
    with use_database(ground.everyone):
        await tell_of_dead_letters([inbox])
    told = {str(alert.details.get("fingerprint")) for alert in inbox.alerts}
    return {tenant for tenant in ("acme", "globex") if _kind_of(tenant, "untold") in told}


def _kind_of(tenant: str, kind: str) -> str:
    """Returns the fingerprint of a letter, as the rows above create it."""
    return hashlib.md5(f"{tenant}{kind}".encode(), usedforsecurity=False).hexdigest()[:16]


async def _letters_of(ground: Ground, kind: str) -> Sequence[DeadLetterRow]:
    async with ground.everyone.platform_session("test") as session:
        found = await letters.latest(session, Filter(), limit=99)
        await letters.depths(session)
        await letters.unsettled(session, after=None, limit=9)
        await letters.known(session, [each.workflow_id for each in found])
    return [each for each in found if each.workflow_id.endswith(kind)]


async def _discard(ground: Ground) -> Served:
    found = [each.id for each in await _letters_of(ground, "open")]
    async with ground.everyone.platform_session("test") as session:
        its = await letters.find(session, found)
        return {tenant for tenant, _ in await letters.discard(session, its, "x")}


async def _resolve(ground: Ground) -> Served:
    found = await _letters_of(ground, "again")
    async with ground.everyone.platform_session("test") as session:
        await letters.resolve(session, found, "x")
    return {each.tenant_id for each in await _letters_of(ground, "again")
            if each.status == "resolved"}  # fmt: skip


async def _mark_replayed(ground: Ground) -> Served:
    found = set()
    for each in await _letters_of(ground, "untold"):
        with suppress(LockHeld):
            async with ground.everyone.platform_session("test") as session:
                if await letters.mark_replayed(session, each, "run", "x"):
                    found.add(each.tenant_id)
    return found


async def _forget(ground: Ground) -> Served:
    async with ground.everyone.platform_session("test") as session:
        old = await letters.settled_before(session, datetime.now(UTC) - MINUTE, limit=99)
        await letters.forget(session, old)
    return {"acme", "globex"} - {each.tenant_id for each in await _letters_of(ground, "done")}


async def _enqueue(ground: Ground) -> Served:
    with within(ground.everyone, "globex"):
        async with tenant_session(limits=SessionLimits(lock=LOCK_TIMEOUT)):
            await enqueue(Note, {}, key="new")
    return {"globex"}


OPERATIONS: list[Callable[[Ground], Awaitable[Served]]] = [
    _find_waiting, _claim, _take_lost, _ask_after, _mark, _mark_in_one, _write_letters, _prune,
    _allow, _tell, _discard, _resolve, _mark_replayed, _forget, _enqueue,
]  # fmt: skip
NO_TABLES_NEEDED = [_allow]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    held=st.lists(
        st.sampled_from([*ROWS, *CHANGES, *PEEKS, *ADVISORY]), min_size=1, max_size=6, unique=True
    ),
    table=st.none() | st.sampled_from(TABLES),
)
async def test_no_statement_waits_for_what_a_tenant_holds_and_others_are_served(
    ground: Ground, held: list[str], table: str | None
) -> None:
    ground.fill()
    with holding(ground.urls.tenant, "acme", *held) as connection:
        locked = table is not None and take(connection, table)
        for operation in OPERATIONS:
            try:
                async with asyncio.timeout(IN_TIME):
                    served = await operation(ground)
            except (LockHeld, psycopg.errors.LockNotAvailable):
                assert locked or operation in (_mark_in_one, _write_letters), operation.__name__
                continue
            whole = not locked or operation in NO_TABLES_NEEDED
            if whole and served is not None:
                assert "globex" in served, operation.__name__

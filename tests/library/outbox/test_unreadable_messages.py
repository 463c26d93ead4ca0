"""A tenant's bad row affects only that row: the relay, other tenants and lists go on."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from temporalio.client import Client
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.directory import CachedDirectory, use_directory
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.payloads import PayloadUnreadable
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters._telling import tell_of_dead_letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.dead_letters.replaying import replay
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.outbox import (
    OutboxMessage,
    PayloadTooLarge,
    Relay,
    RetryLadder,
    Unit,
    enqueue,
    start_unit,
)
from temporal_tenancy.outbox.inspection import backlogs
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.relay.queue import TEXT_MAX
from temporal_tenancy.outbox.relay.starting import read_payload
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import (
    Database,
    platform_session,
    tenant_session,
    use_database,
)
from temporal_tenancy.sdk._converter import compose
from tests.fixtures.hostile_json import ROWS, VALUES
from tests.fixtures.hostile_messages import HOSTILE, READY, insert, insert_hostile, take_walls_away
from tests.fixtures.postgres import within
from tests.fixtures.relay import (
    ask,
    beside,
    effects_of,
    messages_of,
    running,
    until_effects,
    until_messages,
)

MakeRelay = Callable[..., Relay]
DONE: Final = {"completed", "dead_letter"}
DATA_CONVERTER: Final = compose(None)
SPOILT: Final = (
    ("PayloadUnreadable", """('{"data": 1e5000}')::jsonb"""),
    ("PayloadUnreadable", "(repeat('[', 3000) || repeat(']', 3000))::jsonb"),
    ("InvalidPayload", "'[7]'"),
    ("InvalidPayload", """'{"text": 7}'"""),
)
pytestmark = pytest.mark.usefixtures("two_tenants")


@pytest.fixture(autouse=True)
def unwalled(database_urls: DatabaseUrls) -> None:
    """The reader is a separate wall, and some rows are older than the database's checks."""
    take_walls_away(database_urls)


async def test_what_a_row_holds_stops_neither_the_relay_nor_others(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, app: Client
) -> None:
    await insert_hostile(database, "acme")
    await ask(database, "globex", key="sound")
    async with running(make_relay(lease=timedelta(minutes=5))) as relay:
        assert await beside(relay, until_effects(database, "globex", 1)) == ["sound"]
        found = await beside(
            relay, until_messages(database, "acme", lambda ms: {m.status for m in ms} <= DONE)
        )
        came_to = {
            m.key if m.key in HOSTILE else m.key.split("-")[0]: m.error_type
            for m in found
            if m.status == "dead_letter"
        }
        assert came_to == {
            name: each.comes_to for name, each in HOSTILE.items() if each.comes_to != READY
        }
        ready = [name for name, each in HOSTILE.items() if each.comes_to == READY]
        assert await beside(relay, until_effects(database, "acme", len(ready))) == sorted(ready)
    run = await app.get_workflow_handle("acme/test.note/correlation").describe()
    assert await run.memo_value("correlation_id") == "c" * 200
    await _handle_letters(app, database, {m.key for m in found if m.status == "dead_letter"})


async def _handle_letters(app: Client, database: Database, keys: set[str]) -> None:
    """Lists, replays, sweeps and discards the letters with these keys."""
    directory = CachedDirectory(ControlPlaneDirectory(database))
    with use_database(database), use_directory(directory):
        async with platform_session("list letters in a test") as session:
            found = await letters.latest(session, Filter(), limit=100)
        assert len(found) == len(keys)
        unreadable = [each for each in found if each.error_type == "PayloadUnreadable"]
        assert unreadable
        for letter in unreadable:
            with pytest.raises(PayloadUnreadable):
                await replay(app, letter, by="a test")
        sweep = Sweep(app)
        assert await sweep.find(datetime.now(UTC), until=math.inf) == 0
        assert await sweep.resolve() == 0
        async with platform_session("discard letters in a test") as session:
            assert len(await letters.discard(session, found, "a test")) == len(found)
        assert await sweep.forget(datetime.now(UTC) + timedelta(days=365)) == len(found)


async def test_messages_worked_off_together_have_their_own_troubles(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, database_urls: DatabaseUrls
) -> None:
    """The messages were valid when their workflow started, and are not when it reads them."""
    taken = []

    async def spoil(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        with connect(database_urls.superuser) as superuser:
            for number, (name, hostile) in enumerate(SPOILT):
                statement = f"update tenancy.outbox_messages set payload = {hostile} where key = %s"
                superuser.execute(statement.encode(), [f"k{number}"])
                taken.append(name)
        await start_unit(client, unit, ladder)

    for number in range(10):
        await ask(database, "acme", "test.small", key=f"k{number}")
    async with running(make_relay(deliver=spoil)) as relay:
        found = await beside(
            relay, until_messages(database, "acme", lambda ms: {m.status for m in ms} <= DONE)
        )
    dead = [m.error_type for m in found if m.status == "dead_letter"]
    assert dead == [name for name, _ in SPOILT]
    assert await effects_of(database, "acme") == [f"k{number}" for number in range(len(dead), 10)]


async def test_a_row_that_no_statement_may_touch_holds_up_nobody_else(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, database_urls: DatabaseUrls
) -> None:
    await ask(database, "acme", key="untouchable")
    with connect(database_urls.superuser) as superuser:
        superuser.execute(
            "alter table tenancy.outbox_messages add check (key <> 'untouchable') not valid"
        )
    async with running(make_relay()) as relay:
        await ask(database, "globex", key="sound")
        async with asyncio.timeout(30):
            assert await beside(relay, until_effects(database, "globex", 1)) == ["sound"]


async def test_a_payload_that_takes_the_server_long_to_write_holds_up_nobody_else(
    database: Database,
    database_urls: DatabaseUrls,
    relay_worker: Worker,
    make_relay: MakeRelay,
) -> None:
    """Some KiB of JSONB whose text is 65 MB."""
    long = "select jsonb_build_object('data', jsonb_agg(1e131071)) from generate_series(1, 500)"
    await insert(database, "acme", key="'slow'", payload=f"({long})")
    await ask(database, "globex", key="sound")
    async with running(make_relay(claim_limit=timedelta(milliseconds=200))) as relay:
        assert await beside(relay, until_effects(database, "globex", 1)) == ["sound"]
        with connect(database_urls.superuser) as superuser:
            dead = "select error_type from tenancy.outbox_messages where status = 'dead_letter'"
            while not (found := superuser.execute(dead).fetchall()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert found == [("PayloadUnreadable",)]


async def test_times_that_python_has_not_break_no_list_of_others(
    database: Database, relay_database: Database, app: Client
) -> None:
    times = ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'294276-01-01'")
    for number, time in enumerate(times):
        values = dict.fromkeys(("scheduled_at", "created_at", "dequeued_at"), time)
        await insert(database, "acme", key=f"'k{number}'", **values)
        await insert(database, "globex", key=f"'k{number}'")
    for time in times:
        await _insert_letter(database, failed_at=time, recorded_at=time, handled_at=time)
    async with relay_database.platform_session("list messages in a test") as session:
        assert [(b.tenant_id, b.pending) for b in await backlogs(session)] == [
            ("acme", 4),
            ("globex", 4),
        ]
    found = await messages_of(database, "acme")
    years = [message.scheduled_at.year for message in found]
    assert years == [9999, 1, 1, 9999]
    with use_database(database):
        async with platform_session("list letters in a test") as session:
            assert len(await letters.latest(session, Filter(), limit=10)) == 4
            assert sum(each.letters for each in await letters.depths(session)) == 4
        assert await tell_of_dead_letters([]) > 0


async def test_what_a_tenants_role_writes_into_letters_stops_no_sweep(
    database: Database, app: Client, relay_worker: Worker
) -> None:
    done = await app.start_workflow(
        "test.note", {"tenant_id": "globex"}, id="globex/test.note/done", task_queue="bulk"
    )
    await done.result()
    for workflow_id in ("repeat('w', 3000)", r"E'acme/\x1b/\n'", "''", "'acme/test.note/k''k'"):
        await _insert_letter(database, workflow_id=workflow_id)
    of_a_job = {"job": "'test.note'", "workflow_id": "'globex/test.note/done'"}
    await _insert_letter(database, "globex", **of_a_job)
    with use_database(database):
        while await Sweep(app).resolve() == 0:  # visibility comes a moment later
            """Nothing has kept it from the one that has succeeded."""


@pytest.fixture
async def working_relay(make_relay: MakeRelay, relay_worker: Worker) -> AsyncIterator[Relay]:
    """A relay that serves all the examples of a test."""
    async with running(make_relay(ladder=RetryLadder(attempts=1))) as relay:
        yield relay


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(hostile=st.lists(ROWS, min_size=1, max_size=4))
async def test_whatever_rows_the_database_takes_the_relay_works_on(
    database: Database,
    working_relay: Relay,
    hostile: list[dict[str, Any]],
) -> None:
    sound = str(uuid4())
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(text("delete from tenancy.outbox_messages"))
    for row in hostile:
        with suppress(DBAPIError):  # the database rejects it
            await _insert_row(database, "acme", {"job": "test.note", "key": str(uuid4()), **row})
    await ask(database, "globex", key=sound)
    [*_, message] = await beside(
        working_relay, until_messages(database, "globex", lambda ms: ms[-1].status == "completed")
    )
    assert message.key == sound
    found = await beside(
        working_relay, until_messages(database, "acme", lambda ms: {m.status for m in ms} <= DONE)
    )
    assert working_relay.is_running
    dead = {_letter_id(each) for each in found if each.status == "dead_letter"}
    with use_database(database):
        async with platform_session("list letters in a test") as session:
            listed = await letters.latest(session, Filter(), limit=10)
    assert dead <= {each.workflow_id for each in listed}


def _letter_id(message: OutboxMessage) -> str:
    key, job = message.key[:TEXT_MAX], message.job[:TEXT_MAX]
    return Message("acme", message.id, job, key, "", 3, 1, None).letter_id


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=VALUES, key=st.none() | st.text(max_size=5), correlation_id=st.none() | st.text())
async def test_what_enqueue_takes_the_relay_reads(
    database: Database, data: Any, key: str | None, correlation_id: str | None
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            try:
                message_id = await enqueue(
                    "test.note", {"data": data}, key=key, correlation_id=correlation_id
                )
            except (InvalidPayload, PayloadTooLarge, TenantMismatch):
                return
            texts = await payload_texts(session, [("acme", message_id)])
            await session.rollback()
    message = Message(
        "acme", message_id, "test.note", key or "k", texts["acme", message_id], 3, 1, correlation_id
    )
    job_input = read_payload(registry.get_or_raise("test.note"), message)
    [payload] = await DATA_CONVERTER.encode([job_input])
    assert len(payload.data) < 2 * 1024 * 1024
    assert _as_floats(job_input.data) == _as_floats(data)


def _as_floats(value: Any) -> Any:
    """JSONB writes 1e308 as an integer, and 1.0 unchanged."""
    if isinstance(value, dict):
        return {name: _as_floats(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_floats(each) for each in value]
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    ):
        return float(value)
    return value


async def _insert_row(database: Database, tenant: str, row: dict[str, Any]) -> None:
    types = {str: "text", int: "int"}
    casts = {"payload": "jsonb", "scheduled_at": "timestamptz", "created_at": "timestamptz"}
    values = ", ".join(
        f"cast(:{name} as {casts.get(name, types[type(row[name])])})" for name in row
    )
    names = ", ".join(row)
    statement = (
        f"insert into tenancy.outbox_messages (tenant_id, {names}) values (:tenant_id, {values})"
    )
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(text(statement), {"tenant_id": tenant, **row})


async def _insert_letter(database: Database, tenant: str = "acme", **columns: str) -> None:
    given = {
        "tenant_id": f"'{tenant}'",
        "job": r"E'\x1b[2J'",
        "source": "'relay'",
        "workflow_id": f"'{tenant}/test.note/' || gen_random_uuid()",
        "error_type": "repeat('e', 100000)",
        "message": r"E'\x1b'",
        "fingerprint": "'f'",
        "attempts": "2147483647",
        "failed_at": "now() - interval '1 year'",
        **columns,
    }
    names, values = ", ".join(given), ", ".join(given.values())
    statement = f"insert into tenancy.dead_letters ({names}) select {values}"
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(text(statement))

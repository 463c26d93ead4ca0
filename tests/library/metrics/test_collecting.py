"""What a relay collects from the database and from Temporal, and what it does when one is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.ledger import Entry, NeverBegun
from temporal_tenancy.control_plane.tables import LedgerState, TickState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.observations import (
    Claimed,
    ConnectionHeld,
    StartTried,
    add_observer,
    remove_observer,
)
from temporal_tenancy.metrics import CollectOptions, _outbox_gauges, collecting
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics import gauges as sources
from temporal_tenancy.metrics._store import Store
from temporal_tenancy.outbox import Relay
from temporal_tenancy.outbox.inspection import Backlog
from temporal_tenancy.outbox.relay.store_rounds import StoreView
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.ticks.schedules import ScheduledJob
from tests.fixtures.jobs.relay_control import Control
from tests.fixtures.postgres import within
from tests.fixtures.relay import ask, running, until_effects, until_messages

pytestmark = [pytest.mark.schedules, pytest.mark.usefixtures("two_tenants")]
LATER = datetime.now(UTC) + timedelta(days=1)
OFTEN = CollectOptions(every=timedelta(milliseconds=10), timeout=timedelta(seconds=5))


def values(store: Store, instrument: of.Instrument) -> dict[tuple[str, ...], float]:
    """Returns the values of a gauge, by its labels."""
    return {
        tuple(sample.labels[label] for label in instrument.labels): sample.value
        for family in store.families()
        if family.name == instrument.name
        for sample in family.samples
    }


async def until(store: Store, instrument: of.Instrument) -> dict[tuple[str, ...], float]:
    """Waits until there is a value."""
    while not (found := values(store, instrument)):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return found


async def test_messages_are_counted_by_why_they_wait(
    database: Database, relay_database: Database, tenants: Tenants, admission: Admission
) -> None:
    await tenants.add("slow", "Slow", plan="standard")
    for tenant in ("acme", "globex", "slow"):
        await ask(database, tenant)
        await ask(database, tenant, at=LATER)
    await admission.pause("globex", "a test")
    await tenants.set_status("slow", TenantStatus.SUSPENDED)
    found = await _outbox_gauges.of_outbox(relay_database, ControlPlaneDirectory(relay_database))
    assert {reason: count for (reason,), count in found[of.MESSAGES].items() if count} == {
        "due": 1,
        "later": 3,
        "paused": 1,
        "suspended": 1,
    }
    assert 0 < found[of.OLDEST_DUE][()] < 60


async def test_messages_in_databases_of_tenants_count_with_the_others(
    database: Database, relay_database: Database, tenants: Tenants, admission: Admission
) -> None:
    for tenant in ("up", "down"):
        await tenants.add(tenant, tenant, plan="standard")
    await ask(database, "acme")
    await admission.pause("down", "a test")
    due = datetime.now(UTC) - timedelta(minutes=10)
    views = [
        StoreView("t_1", "up", Backlog("up", 5, 1, 2, due), 3, None, None),
        StoreView("t_2", "down", Backlog("down", 7, 0, 0, due), 0, due, "it does not answer."),
        StoreView("t_3", "new", None, 0, None, None),
    ]
    directory = ControlPlaneDirectory(relay_database)
    found = await _outbox_gauges.of_outbox(relay_database, directory, views)
    assert {reason: count for (reason,), count in found[of.MESSAGES].items() if count} == {
        "due": 1 + 2,
        "later": 3,
        "retry": 1,
        "processing": 2,
        "paused": 7,
    }
    assert found[of.STORES] == {("answering",): 2, ("away",): 1}
    assert 600 <= found[of.OLDEST_DUE][()] < 700


async def test_an_empty_outbox_is_zeros(relay_database: Database) -> None:
    found = await _outbox_gauges.of_outbox(relay_database, ControlPlaneDirectory(relay_database))
    assert set(found[of.MESSAGES].values()) == {0}
    assert found[of.OLDEST_DUE] == {(): 0}
    assert found[of.OLDEST_LETTER] == {(): 0}


async def test_dead_letters_are_counted_by_job_with_the_age_of_the_oldest(
    database: Database,
    relay_database: Database,
    make_relay: Callable[..., Relay],
    work_control: Control,
    relay_worker: Worker,
) -> None:
    async with running(make_relay()):
        await ask(database, "acme", input={"text": "refuse"})
        await until_messages(
            database, "acme", lambda found: any(m.status == "dead_letter" for m in found)
        )
    found = await _outbox_gauges.of_outbox(relay_database, ControlPlaneDirectory(relay_database))
    assert found[of.LETTERS] == {("test.note",): 1}
    assert 0 < found[of.OLDEST_LETTER][()] < 60


async def test_the_ledger_says_how_far_a_tick_is_and_what_was_missed(
    database: Database, relay_database: Database
) -> None:
    nominal = datetime.now(UTC) - timedelta(minutes=10)
    async with database.platform_session("write a ledger in a test") as session:
        await ledger.open_tick(
            session, "test.note", "t1", nominal_time=nominal, workflow_id="w", run_id="r"
        )
        states = (LedgerState.PLANNED, LedgerState.SKIPPED)
        entries = [Entry(tenant, state) for tenant, state in zip("ab", states, strict=True)]
        await ledger.plan(session, "test.note", "t1", entries, planned_by="w")
        await ledger.note_missed(session, [NeverBegun("test.note", "t0", nominal, "away")])
    found = await sources.of_ledger(relay_database)
    assert found[of.TICK_TENANTS] == {("test.note", "planned"): 1, ("test.note", "skipped"): 1}
    assert 600 <= found[of.TICK_LAG][("test.note",)] < 700
    assert 0 < found[of.TICK_RUNNING][("test.note",)] < 60
    assert found[of.TICKS_MISSED] == {("test.note",): 1}
    assert found[of.TENANTS_MISSED] == {("test.note",): 0}
    async with database.platform_session("end a tick in a test") as session:
        failed = [Entry("a", LedgerState.FAILED)]
        await ledger.record(session, "test.note", "t1", failed)
        await ledger.close_tick(session, "test.note", "t1", TickState.ENDED, workflow_id="w")
    found = await sources.of_ledger(relay_database)
    assert found[of.TICK_RUNNING] == {("test.note",): 0}
    assert found[of.TENANTS_MISSED] == {("test.note",): 1}


async def test_task_queues_and_schedules_are_asked_for(
    relay_client: Client, relay_worker: Worker
) -> None:
    found = await sources.of_temporal(relay_client, ["bulk", "nobody"])
    while found[of.POLLERS]["bulk", "workflow", "yes"] < 1:  # its first poll is on its way
        found = await sources.of_temporal(relay_client, ["bulk", "nobody"])
    assert found[of.POLLERS]["bulk", "workflow", "no"] == 0
    assert found[of.POLLERS]["nobody", "workflow", "yes"] == 0
    assert found[of.VERSIONS] == {("bulk",): 1, ("nobody",): 0}
    assert found[of.PAUSED] == {(): 0}
    backlog = {labels[:2]: count for labels, count in found[of.BACKLOG].items()}
    assert backlog["bulk", "activity"] == 0
    scheduled = ScheduledJob("test.note", "0 6 1 * *")
    assert (await sources.of_schedules(relay_client, [scheduled]))[of.SCHEDULES]["missing",] == 1
    handle = await relay_client.create_schedule(scheduled.id, scheduled.schedule())
    assert (await sources.of_schedules(relay_client, [scheduled]))[of.SCHEDULES] == {
        ("as_declared",): 1,
        ("different",): 0,
        ("missing",): 0,
        ("paused",): 0,
    }
    changed = ScheduledJob("test.note", "0 7 1 * *")
    assert (await sources.of_schedules(relay_client, [changed]))[of.SCHEDULES]["different",] == 1
    await handle.delete()


async def test_a_database_that_is_away_leaves_the_last_values_and_their_age(
    relay_client: Client, relay_database: Database, nowhere: Client
) -> None:
    store = Store()
    gone = Database(platform_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    store.replace("outbox", {of.OLDEST_LETTER: {(): 7.0}, of.COLLECTED: {("outbox",): 1.0}})
    async with collecting(
        nowhere, gone, ControlPlaneDirectory(gone), queues=["bulk"], options=OFTEN, store=store
    ):
        while values(store, of.COLLECT_FAILURES).get(("temporal",), 0) < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while values(store, of.COLLECT_FAILURES).get(("outbox",), 0) < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert values(store, of.OLDEST_LETTER) == {(): 7.0}
        assert values(store, of.COLLECTED)["outbox",] == 1.0
    await gone.dispose()


async def test_everything_is_collected_in_the_background(
    relay_client: Client, relay_database: Database
) -> None:
    store = Store()
    directory = ControlPlaneDirectory(relay_database)
    async with (
        asyncio.timeout(60),
        collecting(
            relay_client, relay_database, directory, queues=["bulk"], options=OFTEN, store=store
        ),
    ):
        for instrument in (of.MESSAGES, of.POLLERS, of.SCHEDULES):
            await until(store, instrument)
        while len(values(store, of.COLLECTED)) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for source, gauges in store._collected.items():  # as the page says
        assert {each.source for each in gauges if each is not of.COLLECTED} == {source}


async def test_a_relay_and_its_sessions_are_observed(
    database: Database,
    make_relay: Callable[..., Relay],
    work_control: Control,
    relay_worker: Worker,
) -> None:
    found: list[object] = []
    append = found.append
    add_observer(append)
    try:
        async with running(make_relay()):
            await ask(database, "acme", key="k1")
            await until_effects(database, "acme", 1)
    finally:
        remove_observer(append)
    [tried] = [each for each in found if isinstance(each, StartTried)]
    assert (tried.job, tried.outcome) == ("test.note", "started")
    assert tried.lag is not None
    assert 0 < tried.lag < 30
    assert sum(each.messages for each in found if isinstance(each, Claimed)) == 1
    held = [each for each in found if isinstance(each, ConnectionHeld)]
    assert ("tenant", "acme", "test.note") in {(h.pool, h.tenant_id, h.job) for h in held}
    assert ("tenant", "acme", None) in {(h.pool, h.tenant_id, h.job) for h in held}
    assert all(0 <= each.seconds < 30 for each in held)


async def write(database: Database, tenant: str, statement: str) -> None:
    """Writes rows as a tenant's own code does."""
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(text(statement))


async def test_no_tenants_rows_hide_those_of_another(
    database: Database, relay_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outbox_gauges, "ROWS", 20)
    await write(
        database,
        "acme",
        """
        insert into tenancy.outbox_messages (tenant_id, job, key, payload, priority, scheduled_at)
        select 'acme', 'test.note', 'k' || g, '{}', 1 + g % 5,
            now() + g % 2 * interval '300 days' - interval '1 minute'
        from generate_series(1, 90) as g
        """,
    )
    await write(
        database,
        "globex",
        """
        insert into tenancy.outbox_messages (tenant_id, job, key, payload, scheduled_at)
        values ('globex', 'test.note', 'k', '{}', now() - interval '2 hours')
        """,
    )
    letters = """
        insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
            fingerprint, attempts, failed_at)
        select '{tenant}', {job}, 'relay', '{tenant}/' || {job} || '/' || g, 'E', '',
            '0123456789abcdef', 1, now() - interval '{age}'
        from generate_series(1, {count}) as g
    """
    of_acme = {"tenant": "acme", "job": "('no.job' || g || chr(27))", "age": "1 day", "count": 40}
    await write(database, "acme", letters.format(**of_acme))
    of_globex = {"tenant": "globex", "job": "'test.note'", "age": "1 hour", "count": 1}
    await write(database, "globex", letters.format(**of_globex))
    found = await _outbox_gauges.of_outbox(relay_database, ControlPlaneDirectory(relay_database))
    assert found[of.OLDEST_DUE][()] > 7000
    messages = {reason: count for (reason,), count in found[of.MESSAGES].items() if count}
    assert 11 <= messages["due"] <= 21
    assert 10 <= messages["later"] <= 20
    assert found[of.LETTERS]["test.note",] == 1
    assert found[of.LETTERS].keys() == {("test.note",), ("other",)}
    assert 10 <= found[of.LETTERS]["other",] <= 20
    assert found[of.OLDEST_LETTER][()] > 80_000
    assert found[of.IN_PART] == {("outbox",): 1}
    monkeypatch.setattr(_outbox_gauges, "ROWS", 1_000)
    found = await _outbox_gauges.of_outbox(relay_database, ControlPlaneDirectory(relay_database))
    assert found[of.MESSAGES]["due",] == 46
    assert found[of.MESSAGES]["later",] == 45
    assert found[of.LETTERS]["other",] == 40
    assert found[of.IN_PART] == {("outbox",): 0}

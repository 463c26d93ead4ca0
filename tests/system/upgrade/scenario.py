"""Runs a release's own code on the rows of its database, session after session.

It uses what the library exports and what its processes call, and so runs on each release.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from activities.cleanup import EXPIRING
from activities.deletion import Batches, _batch
from dev.devstack.postgres import DatabaseUrls
from processes import connect  # noqa: F401  # the jobs are known with it
from saas.database.contacts import Contact, Import
from saas.database.mail import Notification, OutgoingMail
from saas.database.tables import DailyUsage, Document, Invoice, InvoiceLine, TenantData, UsageEvent
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane._api_keys import ApiKeys
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.ledger import Entry
from temporal_tenancy.control_plane.server_checks import last_fairness
from temporal_tenancy.control_plane.tables import DeadLetterRow, LedgerState, TickState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters._telling import tell_of_dead_letters
from temporal_tenancy.dead_letters.alerts import Alert, tell
from temporal_tenancy.dead_letters.inputs import forget_inputs, kept_input
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters, record
from temporal_tenancy.outbox import (
    OutboxMessage,
    ProcessedEvent,
    enqueue,
    enqueue_many,
    once,
)
from temporal_tenancy.outbox import (
    _working as working,
)
from temporal_tenancy.outbox.inspection import backlogs, find_message
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import admission, queue
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.installation import Installation
from tests.fixtures.postgres import within
from tests.fixtures.relay import take_lost
from tests.system.upgrade.recording import Recording

LEASE: Final = timedelta(minutes=1)
NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
TOGETHER: Final = "acme/mail.send/messages-1"
JOB: Final = "billing.cycle"


def row(number: int) -> UUID:
    """Returns the id of a row in rows.sql."""
    return UUID(int=0x019B7000_0000_7000_8000_000000000000 + int(str(number), 16))


async def run(
    urls: DatabaseUrls, recording: Recording, installation: Installation | None = None
) -> None:
    """Sends all statements, as each role; `recording` listens."""
    workers = Database(
        tenant_url=urls.tenant, platform_url=urls.platform, installation=installation
    )
    relay = Database(platform_url=urls.relay, installation=installation)
    recording.listen(workers.tenant_engine, "tenant")
    recording.listen(workers.platform_engine, "platform")
    recording.listen(relay.platform_engine, "relay")
    try:
        await _as_relay(relay)
        await _as_platform(workers)
        await _as_tenant(workers)
    finally:
        await workers.dispose()
        await relay.dispose()


async def _as_relay(relay: Database) -> None:
    async def send(act: Callable[[AsyncSession], Coroutine[Any, Any, Any]]) -> Any:
        async with relay.platform_session("a release") as session:
            return await act(session)

    found = await send(lambda session: queue.waiting_tenants(session, after="", limit=64))
    records = {each.id: each for each in await ControlPlaneDirectory(relay).find_many(found)}
    await send(lambda session: admission.decisions(session, found))
    await send(
        lambda session: admission.allowances(session, found, records, room=10, partial=False)
    )
    claimed = await send(
        lambda session: queue.claim(session, {"acme": 5, "globex": 1}, lease=LEASE)
    )
    more = {("globex", "mail.send"): 5}
    claimed += await send(lambda session: queue.claim_more(session, more, lease=LEASE))
    assert len(claimed) == 4
    first, second, third, fourth = sorted(claimed, key=lambda each: str(each.id))
    together = Unit("globex/mail.send/messages-9", [third, fourth], coalesced=True)
    await send(lambda session: queue.take_slots(session, [together]))
    await send(lambda session: queue.hand_over(session, [together], lease=LEASE))
    await send(lambda session: queue.RELAY.complete(session, [first]))
    await send(lambda session: queue.release(session, [second]))
    lost = await send(lambda session: take_lost(session, lease=LEASE))
    assert lost.key == "lost-1"
    await send(lambda session: _fail(session, lost, None))
    asked = await send(lambda session: take_lost(session, lease=LEASE))
    assert asked.key == "lost-2"
    await send(lambda session: queue.extend(session, asked, lease=LEASE))
    both = await send(lambda session: queue.together_with(session, asked))
    await send(
        lambda session: queue.give_back(session, both, error_type="RelayLost", error_message="so")
    )
    await send(lambda session: queue.prune(session, keep=LEASE))
    await send(lambda session: queue.slots_to_check(session, age=LEASE, limit=1))
    await send(lambda session: queue.free_slots(session, [("globex", together.workflow_id)]))
    await send(backlogs)
    await send(lambda session: tell(session, Alert("outbox.age", "so"), []))
    await send(lambda session: tell(session, Alert("outbox.age", "so"), []))


async def _fail(session: AsyncSession, message: Message, wait: timedelta | None) -> None:
    dead = await queue.RELAY.fail(session, [Failed(message, "RelayLost", "it died.", wait)])
    letter = Letter(
        str(message.own_id), Source.RELAY, "RelayLost", "it died.", 2, message_id=dead[0].message.id
    )
    await put_letters(session, [letter])


async def _as_platform(workers: Database) -> None:
    tenants = Tenants(workers)
    await tenants.add("new", "New", plan="free", settings={"colour": "blue"})
    await tenants.set_status("new", TenantStatus.SUSPENDED, reason="so")
    await tenants.resume("new")
    await tenants.end_trial("trying", plan="standard", at=NOW)
    assert [each.id async for each in tenants.list()]
    directory = ControlPlaneDirectory(workers)
    await directory.find("acme")
    await directory.find_many(["acme", "globex"])
    await directory.page(limit=10)
    decided = Admission(workers)
    await decided.pause("acme", "so")
    await decided.resume("acme")
    await decided.set_cap("acme", 3, running=["acme/mail.send/1"])
    keys = ApiKeys(workers)
    await keys.create("acme", "another")
    await keys.list("acme")
    await keys.revoke("acme", UUID(int=row(0).int + 0xF1))
    await last_fairness(workers, "default")
    await _ledger(workers)
    with use_database(workers):
        await _letters(workers)
        await tell_of_dead_letters([])


async def _ledger(workers: Database) -> None:
    async with workers.platform_session("a release") as session:
        fan_out = "platform/billing.cycle/tick-2"
        await ledger.open_tick(
            session, JOB, "2026-02", nominal_time=NOW, workflow_id=fan_out, run_id="r9"
        )
        entries = [
            Entry("acme", LedgerState.PLANNED, due_at=NOW),
            Entry("globex", LedgerState.SKIPPED, "it is suspended", due_at=NOW),
        ]
        await ledger.plan(session, JOB, "2026-02", entries, planned_by=fan_out)
        await ledger.all_planned(session, JOB, "2026-02")
        [slice_] = await ledger.slices(session, JOB, "2026-02", planned_by=fan_out, size=10)
        await ledger.page(
            session, JOB, "2026-02", planned_by=fan_out, after=None, upto=slice_.upto, limit=10
        )
        ran = Entry("acme", LedgerState.RUNNING, workflow_id="acme/billing.cycle/2026-02")
        await ledger.record(session, JOB, "2026-02", [ran], was=LedgerState.PLANNED)
        await ledger.known(session, JOB, "2026-02", ["acme"])
        await ledger.in_doubt(session, JOB, "2026-02", after=None, limit=5)
        await ledger.count(session, JOB, "2026-02")
        await ledger.rows(session, JOB, "2026-02")
        await ledger.latest_ticks(session, limit=5)
        await ledger.row_of_workflow(session, "acme/billing.cycle/2026-01")
        await ledger.abandon(session, JOB, "2026-02", "so", planned_by=fan_out)
        await ledger.close_tick(session, JOB, "2026-02", TickState.ENDED, workflow_id=fan_out)
        await ledger.release(session, JOB, "2026-02", planned_by=fan_out)
        await ledger.prune(session, JOB, "2026-02", limit=5)


async def _letters(workers: Database) -> None:
    async with workers.platform_session("a release") as session:
        found = await letters.latest(session, Filter(newer_than=timedelta(days=9999)), limit=10)
        await letters.page(session, Filter(tenant_id="acme"), after=None, limit=5, now=NOW)
        await letters.find(session, [row(51)])
        await letters.unsettled(session, after=None, limit=5)
        await letters.known(session, ["acme/mail.send/dead-1"])
        await letters.depths(session)
        first = next(each for each in found if each.id == row(51))
        await letters.mark_replayed(session, first, "r7", "ada")
        await letters.discard(session, [each for each in found if each.id == row(53)], "ada")
        await letters.resolve(session, [first], "ada")
        old = await letters.settled_before(session, NOW, limit=5)
        await letters.forget(session, old)
        await letters.position(session, "dead_letters.sweep")
        await letters.move(session, "dead_letters.sweep", NOW)


async def _as_tenant(workers: Database) -> None:
    async def send(act: Callable[[AsyncSession], Coroutine[Any, Any, Any]]) -> Any:
        with within(workers, "acme"):
            async with tenant_session() as session:
                return await act(session)

    job_input = {"period": "2026-01"}
    await send(lambda _: enqueue(JOB, job_input, key="2026-01", correlation_id="order-17"))
    await send(lambda _: enqueue(JOB, job_input, key="2026-01"))  # which exists
    await send(lambda _: enqueue(JOB, job_input, at=NOW))
    several = [job_input, {"period": "2026-02"}, {"period": "2026-03"}]
    await send(lambda _: enqueue_many(JOB, several, keys=["2026-01", None, "2026-03"]))
    await send(lambda session: once(session, "mail.send", "new"))
    await send(lambda session: once(session, "mail.send", "known"))
    await send(_work_off)
    await send(lambda session: record(session, _failure("mail.send/dead-2"), {"n": 3}))
    await send(lambda session: record(session, _failure("billing.cycle/2025-12"), {"n": 4}))
    await send(lambda session: record(session, _failure("billing.cycle/new"), None))
    await send(lambda session: find_message(session, "mail.send", "due-1"))
    await send(_read_everything)
    await send(_add_rows)
    await send(_clean_up)
    async with workers.platform_session("a release") as session:
        [letter] = await letters.find(session, [row(52)])
    with use_database(workers):
        assert await kept_input(letter) is not None
        await forget_inputs("acme", [row(41)])


def _failure(name: str) -> Letter:
    return Letter(f"acme/{name}", Source.WORKFLOW, "Broken", "so", 2, run_id="r8", failed_at=NOW)


async def _work_off(session: AsyncSession) -> None:
    first, second, third = await working.load(session, [row(21), row(22), row(23)], TOGETHER)
    second = await working.begin_again(session, second, TOGETHER)
    failed = [Failed(second, "Broken", "so", LEASE), Failed(third, "Broken", "so", None)]
    await working.holder(TOGETHER).write(session, Marks([first], failed), Source.MESSAGE)


async def _read_everything(session: AsyncSession) -> None:
    models = {mapper.class_.__name__: mapper.class_ for mapper in TenantData.registry.mappers}
    for _, model in sorted(models.items()):
        (await session.scalars(select(model))).all()
    (await session.scalars(select(OutboxMessage))).all()
    (await session.scalars(select(ProcessedEvent))).all()
    query = select(DeadLetterRow).where(DeadLetterRow.tenant_id == "acme")
    (await session.scalars(query)).all()


async def _add_rows(session: AsyncSession) -> None:
    """One at a time, so that the ORM names every nullable column."""
    added = [
        OutboxMessage(job="mail.send", key="by hand", payload={"n": 1}),
        ProcessedEvent(consumer="mail.send", event_id="by hand"),
        DailyUsage(day=dt.date(2026, 1, 1), events=1, cancelled=0, distance=1, air_time=1),
        Document(kind="report", key="1", content={"n": 1}),
        Contact(email="ada@example.org"),
        Import(
            file_name="f.csv", path="acme/f", size=1, encoding="utf-8", dry_run=False,
            started_by="ada", position=0,
        ),
        Notification(subject="so", body="so", reference="imports/1"),
        OutgoingMail(id="1", recipient="ada@example.org", subject="so", body="so"),
        Invoice(
            period="2026-01", currency="USD", total_cents=1, usage_events=1, period_start=NOW,
            period_end=NOW,
        ),
        InvoiceLine(period="2026-01", rate="r", quantity=1, unit_price_micros=1, amount_cents=1),
        UsageEvent(
            time_hour=NOW, carrier="UA", flight=1, origin="EWR", destination="SFO", distance=1,
            cancelled=False,
        ),
    ]  # fmt: skip
    for each in added:
        session.add(each)
        await session.flush()


async def _clean_up(session: AsyncSession) -> None:
    for rows in EXPIRING:
        await session.execute(
            _batch(rows, NOW, None, Batches().rows).returning(rows.moment),
            execution_options={"synchronize_session": False},
        )
    await session.execute(
        delete(Document).where(Document.kind == "report"),
        execution_options={"synchronize_session": False},
    )

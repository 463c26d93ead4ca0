"""The relay starts one workflow per message, in its tenant, whatever dies on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from temporalio.api.operatorservice.v1 import RemoveSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.dead_letters.alerts import Alert
from temporal_tenancy.outbox import (
    OutboxMessage,
    Relay,
    RetryLadder,
    Unit,
    enqueue,
    start_unit,
    work_off,
)
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.starting import ServerAway
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.sql_directory import SqlTenantDirectory
from temporal_tenancy.sdk.search_attributes import (
    SearchAttributesMissing,
    register_search_attributes,
)
from tests.fixtures.app import app_plugin
from tests.fixtures.jobs.relay_control import Control, until
from tests.fixtures.modes import InStoreOf
from tests.fixtures.postgres import within
from tests.fixtures.relay import (
    OutboxOf,
    ask,
    effects_of,
    messages_of,
    running,
    take_lost,
    until_effects,
    until_messages,
)

MakeRelay = Callable[..., Relay]
pytestmark = pytest.mark.usefixtures("two_tenants")


async def test_a_message_becomes_a_workflow_of_its_tenant(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, app: Client
) -> None:
    async with running(make_relay()):
        await ask(database, "acme", key="k1", correlation_id="request 7")
        assert await until_effects(database, "acme", 1) == ["k1"]
    run = await app.get_workflow_handle("acme/test.note/k1").describe()
    assert await run.memo_value("correlation_id") == "request 7"
    [message] = await messages_of(database, "acme")
    assert (message.status, message.attempts, message.error_type) == ("completed", 1, None)
    assert message.dequeued_at is not None


async def test_a_relay_opens_its_own_connections_and_closes_them(
    make_relay: MakeRelay, database_urls: DatabaseUrls
) -> None:
    count = """
        select count(*) from pg_stat_activity
        where application_name = 'temporal-tenancy relay' and datname = current_database()
    """
    relay = make_relay()
    with psycopg.connect(plain_url(database_urls.superuser), autocommit=True) as superuser:
        async with running(relay):
            await relay.until_running()
            # A pooler does not pass the name on; the connection that listens may be behind.
            while superuser.execute(count).fetchone() == (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        while superuser.execute(count).fetchone() != (0,):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the server sees the end of each run a little later


async def test_a_client_that_knows_no_tenants_is_no_relays(
    app: Client, raw_client: Client, database_urls: DatabaseUrls
) -> None:
    Relay(app, database_urls.relay)
    with pytest.raises(ConfigurationError, match="this relay's client knows no tenants"):
        Relay(raw_client, database_urls.relay)


async def test_a_relay_does_not_start_without_the_search_attributes(
    temporal: TemporalDevServer,
    bare_namespace: str,
    relay_database: Database,
    database_urls: DatabaseUrls,
) -> None:
    client = await Client.connect(
        temporal.address, namespace=bare_namespace, plugins=[app_plugin(relay_database)]
    )
    relay = Relay(client, database_urls.relay)
    with pytest.raises(SearchAttributesMissing, match='"tenancy schedules apply" does so'):
        await relay.run()
    assert relay.is_shutdown


async def test_a_relay_that_may_no_longer_read_the_directory_says_so_and_goes_on(
    database: Database,
    relay_database: Database,
    temporal: TemporalDevServer,
    namespace: str,
    relay_worker: Worker,
    make_relay: MakeRelay,
    database_urls: DatabaseUrls,
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = SqlTenantDirectory(relay_database, "select id from customers")
    client = await Client.connect(
        temporal.address,
        namespace=namespace,
        plugins=[app_plugin(relay_database, directory=directory)],
    )
    with connect(database_urls.owner) as owner:
        owner.execute(b"create table customers (id text primary key)")
        owner.execute(b"insert into customers values ('acme')")
        async with running(make_relay(client=client)):
            await ask(database, "acme", key="k1")

            def told() -> list[Any]:
                return [
                    each
                    for each in caplog.records
                    if each.message in ("relay.directory_unreadable", "relay.database_away")
                ]

            async with asyncio.timeout(20):
                while not told():  # noqa: ASYNC110  # another task logs it
                    await asyncio.sleep(0.02)
            [logged] = told()
            assert logged.message == "relay.directory_unreadable"
            assert logged.error.startswith("tenancy_relay may not read what the tenant directory's")
            assert logged.error.endswith("Grant it select.")
            owner.execute(b"grant select on customers to tenancy_relay")
            assert await until_effects(database, "acme", 1) == ["k1"]


async def test_messages_wait_while_the_namespace_has_lost_its_search_attributes(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    raw: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def is_away() -> bool:
        return "relay.temporal_away" in [each.message for each in caplog.records]

    def settled(found: list[OutboxMessage]) -> bool:
        statuses = {message.status for message in found}
        assert not statuses & {"failed", "dead_letter"}
        return is_away() or statuses == {"completed"}

    remove = RemoveSearchAttributesRequest(namespace=raw.namespace, search_attributes=["TenantId"])
    async with running(make_relay(away=[timedelta(seconds=0.05)])) as relay:
        await relay.until_running()
        await raw.operator_service.remove_search_attributes(remove)
        number = 0
        while not is_away():
            # The server knows of it a little later, and until then starts what there is.
            await ask(database, "acme", key=f"k{number:04}")
            number += 1
            await until_messages(database, "acme", settled)
        [warning] = [each for each in caplog.records if each.message == "relay.temporal_away"]
        assert "has no search attribute TenantId" in vars(warning)["error"]
        await register_search_attributes(raw)
        await until_effects(database, "acme", number)
        found = await until_messages(
            database, "acme", lambda ms: all(m.status == "completed" for m in ms)
        )
    assert {message.attempts for message in found} == {1}


async def test_what_is_rolled_back_was_never_asked_for(
    database: Database, make_relay: MakeRelay, relay_worker: Worker
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            await enqueue("test.note", {}, key="never")
            await session.rollback()
    async with running(make_relay()):
        await ask(database, "acme", key="after")
        assert await until_effects(database, "acme", 1) == ["after"]


async def test_messages_that_work_off_together_have_their_own_outcomes(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, work_off.log.name)  # xdist cannot send half a pair in a line
    for number in range(30):
        text_ = {7: "refuse this", 8: "fail this", 9: "curse"}.get(number, "")
        await ask(database, "acme", "test.small", key=f"k{number:02}", input={"text": text_})
    async with running(make_relay()):
        found = await until_messages(
            database,
            "acme",
            lambda ms: all(m.status in ("completed", "dead_letter") for m in ms),
        )
    by_key = {message.key: message for message in found}
    assert by_key["k07"].status == by_key["k08"].status == "dead_letter"
    assert (by_key["k07"].attempts, by_key["k08"].attempts) == (1, 3)
    assert by_key["k07"].error_message == "this cannot be noted."
    assert by_key["k09"].error_message == "a NUL  and half a pair ?."
    expected = [f"k{number:02}" for number in range(30) if number not in (7, 8, 9)]
    assert await effects_of(database, "acme") == expected


async def test_a_tenants_cap_holds_its_messages_back_and_no_others(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    work_control: Control,
    admission: Admission,
) -> None:
    await admission.set_cap("acme", 2)
    work_control.holding.add("acme")
    for number in range(6):
        await ask(database, "acme", key=f"a{number}")
        await ask(database, "globex", key=f"g{number}")
    async with running(make_relay()), running(make_relay()):
        await until(lambda seen: seen.running["acme"] == 2)
        await until_effects(database, "globex", 6)
        waiting = [m.status for m in await messages_of(database, "acme")]
        assert waiting.count("pending") == 4
        work_control.released.set()
        await until_effects(database, "acme", 6)
    assert work_control.most_running["acme"] == 2


async def test_a_slot_is_free_again_after_a_workflow_that_could_not_say_so(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    work_control: Control,
    admission: Admission,
    app: Client,
) -> None:
    await admission.set_cap("acme", 1)
    work_control.holding.add("acme")
    await ask(database, "acme", key="stuck")
    await ask(database, "acme", key="next")
    async with running(make_relay(slot_unseen=timedelta(milliseconds=100))):
        await until(lambda seen: seen.running["acme"] == 1)
        await app.get_workflow_handle("acme/test.note/stuck").terminate()
        await until_messages(database, "acme", lambda ms: ms[1].status == "completed")


async def test_a_paused_tenants_messages_wait_and_are_released_at_once(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, admission: Admission
) -> None:
    await admission.pause("acme", "their partner is down")
    async with running(make_relay(poll=timedelta(minutes=1))):
        await ask(database, "acme", key="waits")
        await ask(database, "globex", key="goes")
        await until_effects(database, "globex", 1)
        assert [m.status for m in await messages_of(database, "acme")] == ["pending"]
        await admission.resume("acme")
        assert await until_effects(database, "acme", 1) == ["waits"]


async def test_a_suspended_tenants_messages_wait_without_an_attempt(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, tenants: Tenants
) -> None:
    await tenants.set_status("acme", TenantStatus.SUSPENDED)
    async with running(make_relay()):
        await ask(database, "acme", key="waits")
        await ask(database, "globex", key="goes")
        await until_effects(database, "globex", 1)
        [message] = await messages_of(database, "acme")
        assert (message.status, message.attempts) == ("pending", 0)
        await tenants.resume("acme")
        assert await until_effects(database, "acme", 1) == ["waits"]


async def test_people_are_told_of_messages_that_wait_for_too_long_but_not_on_purpose(
    database: Database,
    make_relay: MakeRelay,
    in_store_of: InStoreOf,
    admission: Admission,
) -> None:
    class Inbox:
        def __init__(self) -> None:
            self.alerts: list[Alert] = []
            self.told = asyncio.Event()

        async def send(self, alert: Alert) -> None:
            self.alerts.append(alert)
            self.told.set()

    async def stuck(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        raise ServerAway("UNAVAILABLE: no")

    inbox = Inbox()
    await admission.pause("globex")
    for tenant in ("acme", "globex"):
        await ask(database, tenant, key="old")
        with in_store_of(tenant) as superuser:
            superuser.execute(
                "update tenancy.outbox_messages set scheduled_at = now() - interval '20 min'"
            )
    relay = make_relay(deliver=stuck, alerts=[inbox], age_look=timedelta(seconds=0.1))
    async with running(relay):
        await inbox.told.wait()
        inbox.told.clear()
        await admission.resume("globex")  # acme is always due, and hides no other tenant
        await inbox.told.wait()
    told = [(a.name, a.details["tenant_id"], a.details["tenants"]) for a in inbox.alerts]
    assert told == [("outbox.age", "acme", 1), ("outbox.age", "globex", 1)]  # again an hour later


async def test_a_job_that_runs_in_a_suspension_is_released_in_it(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, tenants: Tenants
) -> None:
    await tenants.set_status("acme", TenantStatus.SUSPENDED)
    async with running(make_relay()):
        await ask(database, "acme", key="waits")
        await ask(database, "acme", "test.dunning", key="goes")
        assert await until_effects(database, "acme", 1) == ["goes"]
        await tenants.resume("acme")
        assert await until_effects(database, "acme", 2) == ["goes", "waits"]


@pytest.mark.parametrize(
    ("statement", "error_type"),
    [
        ("update tenancy.outbox_messages set job = 'no.such_job'", "UnknownJob"),
        ("update tenancy.outbox_messages set job = 'ticks.reconcile'", "UnknownJob"),
        ("update tenancy.outbox_messages set job = 'a/b'", "UnknownJob"),
        ("update tenancy.outbox_messages set payload = '{\"text\": 7}'", "InvalidPayload"),
        ('update tenancy.outbox_messages set payload = \'{"other": "x"}\'', "InvalidPayload"),
        ("update tenancy.outbox_messages set payload = '[]'", "InvalidPayload"),
        (
            'update tenancy.outbox_messages set payload = \'{"tenant_id": "globex"}\'',
            "InvalidPayload",
        ),
        ("update tenancy.outbox_messages set job = 'test.premium'", "FeatureNotEnabled"),
        ("update tenancy.outbox_messages set key = repeat('k', 300)", "KeyInvalid"),
    ],
)
async def test_a_message_that_can_never_run_is_a_dead_letter_at_once(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    database_urls: DatabaseUrls,
    in_store_of: InStoreOf,
    statement: str,
    error_type: str,
) -> None:
    await ask(database, "acme", key="poison")
    with in_store_of("acme") as superuser:
        superuser.execute(statement.encode())
    async with running(make_relay()):
        await ask(database, "acme", key="sound")
        poison, _ = await until_messages(
            database, "acme", lambda ms: not {m.status for m in ms} & {"pending", "processing"}
        )
        await until_effects(database, "acme", 1)
    assert (poison.status, poison.error_type, poison.attempts) == ("dead_letter", error_type, 1)
    with psycopg.connect(plain_url(database_urls.superuser)) as superuser:
        letters = superuser.execute(
            "select tenant_id, source, error_type, message_id from tenancy.dead_letters"
        ).fetchall()
    assert letters == [("acme", "relay", error_type, poison.id)]


async def test_attempts_that_fail_wait_twice_as_long_each_time_and_then_are_a_dead_letter(
    database: Database, make_relay: MakeRelay
) -> None:
    async def refuse(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        raise RuntimeError("no")

    ladder = RetryLadder(attempts=5, unit=timedelta(milliseconds=10))
    await ask(database, "acme", key="k")
    async with running(make_relay(deliver=refuse, ladder=ladder)):
        [message] = await until_messages(database, "acme", lambda ms: ms[0].status == "dead_letter")
    assert (message.attempts, message.error_type, message.error_message) == (
        5,
        "RuntimeError",
        "no",
    )
    assert [ladder.wait_after(n) for n in range(1, 6)] == [
        timedelta(milliseconds=20),
        timedelta(milliseconds=40),
        timedelta(milliseconds=80),
        timedelta(milliseconds=160),
        None,
    ]


@pytest.mark.parametrize(
    "trouble", [ServerAway("UNAVAILABLE: no"), DatabaseUnreachable("the directory is away.")]
)
async def test_while_a_server_is_away_no_attempt_is_counted(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    trouble: Exception,
) -> None:
    away = 10

    async def deliver(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        nonlocal away
        if away:
            away -= 1
            raise trouble
        await start_unit(client, unit, ladder)

    for number in range(3):
        await ask(database, "acme", key=f"k{number}")
    async with running(make_relay(deliver=deliver, away=[timedelta(seconds=0.01)])):
        await until_effects(database, "acme", 3)
    assert [m.attempts for m in await messages_of(database, "acme")] == [1, 1, 1]


@pytest.mark.parametrize(
    "error",
    [
        RPCError("transport error", RPCStatusCode.UNKNOWN, b""),
        RPCError("h2 protocol error: http2 error", RPCStatusCode.INTERNAL, b""),
    ],
    ids=["closed", "said to be closed"],
)
async def test_while_a_proxy_closes_the_connections_no_attempt_is_counted(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    error: RPCError,
) -> None:
    closed, start_workflow = 5, Client.start_workflow

    async def start(*args: Any, **options: Any) -> Any:
        nonlocal closed
        if closed:
            closed -= 1
            raise error
        return await start_workflow(*args, **options)

    monkeypatch.setattr(Client, "start_workflow", start)
    await ask(database, "acme", key="k")
    async with running(make_relay(away=[timedelta(seconds=0.01)])):
        await until_effects(database, "acme", 1)
    assert [m.attempts for m in await messages_of(database, "acme")] == [1]


async def test_what_a_relay_lost_is_started_by_another_after_its_lease(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, outbox_of: OutboxOf
) -> None:
    for number in range(5):
        await ask(database, "acme", key=f"k{number}")
    async with outbox_of("acme").platform_session("a relay that dies") as session:
        lost = await queue.claim(session, {"acme": 4}, lease=timedelta(seconds=0.2))
    # One of them had been started but not marked.
    await start_unit(make_relay()._client, Unit(str(lost[0].own_id), [lost[0]]), RetryLadder())
    async with running(make_relay()):
        await until_effects(database, "acme", 5)
        found = await until_messages(
            database, "acme", lambda ms: all(m.status == "completed" for m in ms)
        )
    assert [message.attempts for message in found] == [2, 2, 2, 2, 1]
    assert await effects_of(database, "acme") == [f"k{number}" for number in range(5)]


async def test_messages_whose_workflow_was_never_started_are_claimed_again_at_once(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, outbox_of: OutboxOf
) -> None:
    for number in range(3):
        await ask(database, "acme", "test.small", key=f"k{number}")
    async with outbox_of("acme").platform_session("a relay that dies") as session:
        lost = await queue.claim(session, {"acme": 3}, lease=timedelta(0))
        unit = Unit("acme/test.small/messages-never", lost, coalesced=True)
        await queue.hand_over(session, [unit], lease=timedelta(0))
    hours = RetryLadder(attempts=5, unit=timedelta(hours=1))
    async with running(make_relay(ladder=hours)):
        assert await until_effects(database, "acme", 3) == ["k0", "k1", "k2"]


async def test_a_slot_is_not_held_by_a_run_that_had_ended_before(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, admission: Admission
) -> None:
    async with running(make_relay(keep_completed=timedelta(0))):
        await ask(database, "acme", key="again")
        await until_effects(database, "acme", 1)
        await until_messages(database, "acme", lambda ms: not ms)
        await admission.set_cap("acme", 1)
        await ask(database, "acme", key="again")
        await until_messages(database, "acme", lambda ms: not ms)
        await ask(database, "acme", key="next")
        assert await until_effects(database, "acme", 2) == ["again", "next"]


async def test_a_message_at_which_the_relay_always_dies_is_a_dead_letter(
    database: Database,
    make_relay: MakeRelay,
    outbox_of: OutboxOf,
    relay_worker: Worker,
    database_urls: DatabaseUrls,
) -> None:
    await ask(database, "acme", key="deadly")
    async with outbox_of("acme").platform_session("a relay that dies") as session:
        await queue.claim(session, {"acme": 1}, lease=timedelta(0))
        for _ in range(2):
            assert await take_lost(session, lease=timedelta(0)) is None  # now() stands still
    for _ in range(2):
        async with outbox_of("acme").platform_session("another that dies") as session:
            assert await take_lost(session, lease=timedelta(0)) is not None
    async with running(make_relay()):
        [message] = await until_messages(database, "acme", lambda ms: ms[0].status == "dead_letter")
    assert message.error_type == "RelayLost"
    assert await effects_of(database, "acme") == []
    with psycopg.connect(plain_url(database_urls.superuser)) as superuser:
        letters = superuser.execute(
            "select source, error_type, message_id from tenancy.dead_letters"
        )
        assert letters.fetchall() == [("relay", "RelayLost", message.id)]


async def test_messages_whose_workflow_was_terminated_are_worked_off_by_another(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    work_control: Control,
    app: Client,
    in_store_of: InStoreOf,
) -> None:
    work_control.holding.add("acme")
    for number in range(3):
        await ask(database, "acme", "test.small", key=f"k{number}")
    async with running(make_relay(lease=timedelta(seconds=0.5))):
        await until(lambda seen: seen.running["acme"] == 3)
        [first, *_] = await messages_of(database, "acme")
        assert first.workflow_id is not None
        await app.get_workflow_handle(first.workflow_id).terminate()
        work_control.holding.clear()
        with in_store_of("acme") as superuser:
            superuser.execute("update tenancy.outbox_messages set lease_until = now()")
        await until_effects(database, "acme", 3)


async def test_what_is_committed_while_nobody_listens_is_found_when_somebody_does_again(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, database_urls: DatabaseUrls
) -> None:
    listening = """
        from pg_stat_activity
        where application_name like '%(listening)' and datname = current_database()
    """
    async with running(make_relay(poll=timedelta(minutes=5))):
        await ask(database, "acme", key="first")
        await until_effects(database, "acme", 1)
        with psycopg.connect(plain_url(database_urls.superuser), autocommit=True) as superuser:
            while not superuser.execute(f"select pid {listening}").fetchone():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            superuser.execute(f"select pg_terminate_backend(pid) {listening}")
        await ask(database, "acme", key="second")
        assert await until_effects(database, "acme", 2) == ["first", "second"]


async def test_what_is_completed_is_deleted_after_a_while(
    database: Database, make_relay: MakeRelay, relay_worker: Worker
) -> None:
    async with running(make_relay(keep_completed=timedelta(0))):
        for number in range(3):
            await ask(database, "acme", key=f"k{number}")
        await until_effects(database, "acme", 3)
        assert await until_messages(database, "acme", lambda ms: not ms) == []


def plain_url(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")

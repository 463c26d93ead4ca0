"""The relay works off the outboxes of tenants in databases of their own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus, use_directory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.replaying import ReplayOutcome, replay
from temporal_tenancy.outbox import OutboxMessage, Relay, RetryLadder, Unit
from temporal_tenancy.outbox._requests import RunStatus, request_state
from temporal_tenancy.outbox.relay import queue, store_rounds
from temporal_tenancy.outbox.tables import MessageStatus
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, use_database
from tests.fixtures.apart import Apart
from tests.fixtures.app import app_plugin, app_worker
from tests.fixtures.jobs import relay_control, relay_jobs
from tests.fixtures.jobs.relay_control import Control
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import within
from tests.fixtures.relay import (
    OPTIONS,
    ask,
    beside,
    effects_of,
    messages_of,
    running,
    until_effects,
    until_messages,
)

MakeRelay = Callable[..., Relay]
SOON = timedelta(milliseconds=50)


@pytest.fixture
async def client(temporal: TemporalDevServer, apart: Apart, namespace: str) -> Client:
    """A client of the application, whose tenants may be in databases of their own."""
    plugin = app_plugin(apart.database)
    return await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])


@pytest.fixture
async def worker(client: Client, work_control: Control) -> AsyncIterator[Worker]:
    async with app_worker(
        client, workflows=relay_jobs.WORKFLOWS, activities=relay_jobs.ACTIVITIES
    ) as worker:
        yield worker


@pytest.fixture
def make(relay_client: Client, apart: Apart, monkeypatch: pytest.MonkeyPatch) -> MakeRelay:
    """Creates relays that visit stores."""
    monkeypatch.setattr(store_rounds, "PAUSES", (0.1,))

    def make(**options: Any) -> Relay:
        options = {"store_poll": SOON, **options}
        arguments = {name: options.pop(name) for name in ("deliver",) if name in options}
        return Relay(
            relay_client,
            apart.urls.relay,
            options=replace(OPTIONS, **options),
            stores=apart.secrets,
            **arguments,
        )

    return make


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"postgresql://a:s3cr3t@127.0.0.1:{listening.getsockname()[1]}/x"


def why_away(relay: Relay, name: str) -> str | None:
    return next((view.why for view in relay.store_views() if view.name == name), None)


async def until_away(relay: Relay, name: str) -> str:
    while (why := why_away(relay, name)) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return why


async def until_looked(relay: Relay, times: int) -> None:
    """Waits until the relay has begun so many looks at its only store: all but one have ended."""
    [store] = relay._stores._stores.values()
    for _ in range(times):
        before = store.looked
        while store.looked == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ask_nobody(apart: Apart, urls: DatabaseUrls) -> None:
    """Requests a job that no release has; no door would take it."""
    await ask(apart.database, "acme", key="n1")
    with connect(urls.superuser) as superuser:
        superuser.execute("update tenancy.outbox_messages set job = 'test.nobody'")


async def open_letters(database: Database) -> list[tuple[str, str, str]]:
    async with database.platform_session("test") as session:
        found = await letters.latest(session, Filter(), limit=100)
    return [(letter.workflow_id, letter.error_type, letter.status) for letter in found]


async def test_messages_of_a_tenant_in_a_database_become_its_workflows(
    apart: Apart, make: MakeRelay, worker: Worker, tenants: Tenants
) -> None:
    urls = await apart.add("acme")
    await tenants.add("globex", "Globex", plan="standard")
    await ask(apart.database, "acme", key="k1")
    await ask(apart.database, "acme", "test.small", key="s1")
    await ask(apart.database, "acme", "test.small", key="s2")
    await ask(apart.database, "globex", key="g1")
    async with running(make()) as relay:
        effects = await beside(relay, until_effects(apart.database, "acme", 3))
        assert effects == ["k1", "s1", "s2"]
        assert await beside(relay, until_effects(apart.database, "globex", 1)) == ["g1"]
        done = await until_messages(apart.database, "acme", all_completed)
    assert [message.attempts for message in done] == [1, 1, 1]
    count = "select tenant_id, count(*) from {} group by 1"
    for url, tenant in ((urls.superuser, "acme"), (apart.urls.superuser, "globex")):
        with connect(url) as superuser:
            for table in ("tenancy.outbox_messages", "effects"):
                owners = superuser.execute(count.format(table).encode()).fetchall()
                assert [owner for owner, _ in owners] == [tenant]


async def test_a_dead_letter_is_in_the_control_plane_and_is_replayed(
    apart: Apart, make: MakeRelay, worker: Worker, client: Client
) -> None:
    urls = await apart.add("acme")
    await ask_nobody(apart, urls)
    await ask(apart.database, "acme", key="w1", input={"text": "refuse"})
    await ask(apart.database, "acme", "test.small", key="c1", input={"text": "refuse"})
    expected = [
        ("acme/test.nobody/n1", "UnknownJob", "open"),
        ("acme/test.note/w1", "NotNoted", "open"),
        ("acme/test.small/c1", "NotNoted", "open"),
    ]
    async with running(make()) as relay:
        # A letter is committed before the mark of its message, and before its input is kept.
        await beside(relay, until_messages(apart.database, "acme", are_dead(3)))
        assert sorted(await open_letters(apart.database)) == expected
    with connect(urls.superuser) as superuser:
        assert superuser.execute("select from tenancy.dead_letters").fetchall() == []
        kept = superuser.execute(
            "select key, payload ->> 'text' from tenancy.outbox_messages "
            "where status = 'dead_letter' order by key"
        ).fetchall()
        assert kept == [("c1", "refuse"), ("n1", ""), ("w1", "refuse")]
        # Mended meanwhile, so that the replay succeeds.
        superuser.execute('update tenancy.outbox_messages set payload = \'{"text": "mended"}\'')
    async with apart.database.platform_session("test") as session:
        found = {
            each.workflow_id: each for each in await letters.latest(session, Filter(), limit=9)
        }
    with use_database(apart.database), use_directory(ControlPlaneDirectory(apart.database)):
        for workflow_id in ("acme/test.note/w1", "acme/test.small/c1"):
            done = await replay(client, found[workflow_id], by="test")
            assert done.outcome is ReplayOutcome.REPLAYED
    assert await until_effects(apart.database, "acme", 2) == ["c1", "w1"]
    with within(apart.database, "acme"):

        async def not_asked(workflow_id: str) -> None:
            raise AssertionError(workflow_id)

        state = await request_state("test.nobody", "n1", not_asked)
    assert state is not None
    assert (state.status, state.error_type) == (RunStatus.FAILED, "UnknownJob")


async def test_a_letter_that_was_written_before_a_crash_is_the_same_letter_after_it(
    apart: Apart, make: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask_nobody(apart, await apart.add("acme"))
    released, crashes = queue.release, 0

    async def crash(*given: Any) -> None:
        nonlocal crashes
        crashes += 1
        if crashes == 1:
            raise psycopg.OperationalError("the store is gone, between the letter and the mark")
        await released(*given)

    monkeypatch.setattr(queue, "release", crash)
    async with running(make()) as relay:
        await beside(relay, until_messages(apart.database, "acme", are_dead(1)))
    assert crashes > 1
    assert await open_letters(apart.database) == [("acme/test.nobody/n1", "UnknownJob", "open")]


async def test_what_a_dead_relay_held_is_started_again_after_its_lease(
    apart: Apart, make: MakeRelay, worker: Worker
) -> None:
    urls = await apart.add("acme")
    await ask(apart.database, "acme", key="k1")
    with connect(urls.superuser) as superuser:
        superuser.execute(
            "update tenancy.outbox_messages set status = 'processing', attempts = 1, "
            "lease_until = now() - interval '1 second'"
        )
    async with running(make(keep_completed=timedelta(0))) as relay:
        assert await beside(relay, until_effects(apart.database, "acme", 1)) == ["k1"]
        await beside(relay, until_messages(apart.database, "acme", lambda found: not found))


async def test_a_pause_a_suspension_and_a_cap_hold_in_a_database_too(
    apart: Apart, make: MakeRelay, worker: Worker, tenants: Tenants, work_control: Control
) -> None:
    await apart.add("acme")
    admission = Admission(apart.database)
    await tenants.set_status("acme", TenantStatus.SUSPENDED)
    await ask(apart.database, "acme", key="k1")
    await ask(apart.database, "acme", "test.dunning", key="d1")
    async with running(make()) as relay:
        assert await beside(relay, until_effects(apart.database, "acme", 1)) == ["d1"]
        await admission.pause("acme")
        await tenants.resume("acme")
        await ask(apart.database, "acme", "test.dunning", key="d2")
        await beside(relay, until_looked(relay, 3))
        assert await effects_of(apart.database, "acme") == ["d1"]
        work_control.holding.add("acme")
        await admission.set_cap("acme", 1)
        await admission.resume("acme")
        await beside(relay, relay_control.until(lambda control: control.running["acme"] == 1))
        await beside(relay, until_looked(relay, 3))
        messages = await messages_of(apart.database, "acme")
        assert [message.status for message in messages].count(MessageStatus.PENDING) == 1
        assert work_control.most_running["acme"] == 1
        work_control.released.set()
        assert len(await beside(relay, until_effects(apart.database, "acme", 3))) == 3
    assert work_control.most_running["acme"] == 1


async def test_a_store_that_never_answers_holds_back_its_own_tenant_alone(
    apart: Apart,
    make: MakeRelay,
    tenants: Tenants,
    black_hole: str,
    log_lines: LogLines,
) -> None:
    delivered: asyncio.Queue[str] = asyncio.Queue()

    async def deliver(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        delivered.put_nowait(unit.tenant_id)

    await apart.add("up")
    for number in range(3):
        await apart.add(f"down{number}")
        apart.secrets.put(f"{apart.names[-1]}.relay", black_hole)
    await tenants.add("globex", "Globex", plan="standard")
    async with running(make(store_connections=2, deliver=deliver)) as relay:
        why = await beside(relay, until_away(relay, apart.names[-1]))
        slowest = 0.0
        for number in range(20):
            for tenant in ("up", "globex"):
                await ask(apart.database, tenant, key=f"k{number}")
            began = time.perf_counter()
            there = {await beside(relay, delivered.get()) for _ in range(2)}
            assert there == {"up", "globex"}
            slowest = max(slowest, time.perf_counter() - began)
    print(f"slowest of 20 messages beside three silent stores: {slowest * 1000:.0f} ms")
    assert slowest < 2  # a try of a silent store takes three seconds
    assert why.startswith(f'the store "{apart.names[-1]}" does not answer')
    assert "s3cr3t" not in why
    assert len(log_lines.all("relay.store_away")) == 3  # once each, however often they are tried


async def test_a_store_that_comes_back_is_worked_off(
    apart: Apart, make: MakeRelay, worker: Worker, log_lines: LogLines
) -> None:
    urls = await apart.add("acme")
    name = apart.names[-1]
    await ask(apart.database, "acme", key="k1")
    apart.secrets.put(f"{name}.relay", "postgresql://a:b@127.0.0.1:1/x")
    async with running(make()) as relay:
        await beside(relay, until_away(relay, name))
        apart.secrets.put(f"{name}.relay", urls.relay)
        assert await beside(relay, until_effects(apart.database, "acme", 1)) == ["k1"]
    assert [view.why for view in relay.store_views()] == [None]
    assert len(log_lines.all("relay.store_back", store=name)) == 1


async def test_a_store_of_another_tenant_is_neither_read_nor_written(
    apart: Apart, make: MakeRelay, worker: Worker
) -> None:
    await apart.add("acme")
    theirs = await apart.add("globex")
    acme, globex = apart.names
    await ask(apart.database, "globex", key="g1")
    with connect(theirs.superuser) as superuser:  # as if a message of acme had got there
        superuser.execute("update tenancy.outbox_messages set tenant_id = 'acme'")
    apart.secrets.put(f"{acme}.relay", theirs.relay)
    apart.secrets.put(f"{globex}.relay", "postgresql://a:b@127.0.0.1:1/x")
    async with running(make()) as relay:
        while (why := why_away(relay, acme)) is None:
            with connect(theirs.superuser) as superuser:
                query = "select status, attempts from tenancy.outbox_messages"
                assert superuser.execute(query).fetchall() == [("pending", 0)]
            await asyncio.sleep(0.02)
    assert "another tenant's. Nothing of it was read or written" in why
    with connect(theirs.superuser) as superuser:
        found = superuser.execute("select status, attempts from tenancy.outbox_messages").fetchall()
    assert found == [("pending", 0)]


async def test_no_more_connections_are_open_than_there_may_be(
    apart: Apart, make: MakeRelay, worker: Worker
) -> None:
    tenants = [f"t{number}" for number in range(5)]
    for tenant in tenants:
        await apart.add(tenant)
        await ask(apart.database, tenant, key="k1")
    count = (
        "select count(*) from pg_stat_activity "
        "where application_name = 'temporal-tenancy relay (stores)'"
    )
    most = 0
    with connect(apart.urls.superuser) as superuser:
        async with running(make(store_connections=2)) as relay:
            for tenant in tenants:
                while not await effects_of(apart.database, tenant):
                    assert [view.why for view in relay.store_views() if view.why] == []
                    await asyncio.sleep(0.02)
                [(there,)] = superuser.execute(count.encode()).fetchall()
                most = max(most, there)
    # A server's process ends a moment after its connection was closed.
    assert 1 <= most <= 3


def all_completed(found: list[OutboxMessage]) -> bool:
    return all(message.status == "completed" for message in found)


def are_dead(how_many: int) -> Callable[[list[OutboxMessage]], bool]:
    def condition(found: list[OutboxMessage]) -> bool:
        return [message.status for message in found].count("dead_letter") == how_many

    return condition


async def test_a_relay_without_a_secret_store_says_so(
    apart: Apart, relay_client: Client, tenants: Tenants
) -> None:
    await apart.add("acme")
    await ask(apart.database, "acme", key="k1")
    relay = Relay(relay_client, apart.urls.relay, options=replace(OPTIONS, store_poll=SOON))
    async with running(relay):
        await beside(relay, until_away(relay, apart.names[-1]))
    [message] = await messages_of(apart.database, "acme")
    assert message.status == "pending"


def test_a_budget_of_no_connection_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Give it store_connections=1 or more"):
        replace(OPTIONS, store_connections=0)

"""Runs scenarios of messages: requested and handled while something goes wrong."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from psycopg.rows import DictRow
from sqlalchemy import make_url

from dev.devstack.postgres import RELAY, TENANT
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.outbox import Unit, start_unit
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.retries import LADDER
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.sdk.suspension import release
from tests.fixtures.hostile_messages import HOSTILE, insert
from tests.system.faults.campaign import STORM_INTERVAL, Outcome, ended_by_themselves, noting
from tests.system.faults.checker import Rows
from tests.system.faults.message_asks import Plan, ask, plan
from tests.system.faults.message_checker import Asked, problems
from tests.system.faults.message_jobs import ALONE, AT_ONCE, EFFECT, TOGETHER
from tests.system.faults.message_process import LEASE
from tests.system.faults.message_scenarios import RELAYS, TENANTS, Kind, Scenario
from tests.system.faults.proxy import CommitProxy
from tests.system.faults.servers import Servers

PATIENCE: Final = 300.0  # seconds per scenario
LOOK: Final = 0.05  # seconds
CAP: Final = 2  # concurrent workflows of the tenant with a cap
TRIES: Final = 20  # to catch a relay between a claim and a start, or a start and its mark
CAUGHT_WITHIN: Final = 1.0  # seconds, each time
COPIES: Final = 3  # of redelivered messages
SWEEP_SECONDS: Final = 10.0
SWEPT_EVERY: Final = 30.0  # seconds: longer than a run tries by itself
UNREADABLE: Final = ("digits", "decimals", "nested", "nested-objects", "long")  # of HOSTILE

# Environment of workers and relays. A worker without a database fails a message a few times.
VARIABLES: Final = {"RELAY_ATTEMPTS": "8", "RELAY_BACKOFF": "PT0.1S"}

_PROGRESS: Final = """
    select (
               select count(*) from audit_entries
                where action = %(effect)s and split_part(subject, '/', 2) like %(keys)s
                  and tenant_id = any(%(tenants)s)
           ) as effects,
           (
               select count(*) from tenancy.dead_letters
                where split_part(workflow_id, '/', 3) like %(keys)s and tenant_id = any(%(tenants)s)
           ) as letters,
           (
               select count(*) from tenancy.outbox_messages
                where key like %(keys)s and tenant_id = any(%(tenants)s)
                  and status in ('pending', 'failed', 'processing')
           ) as open
"""
_IN_HAND: Final = """
    select exists (
        select from tenancy.outbox_messages
         where key like %(keys)s and status = 'processing' and workflow_id is null
    ) as found
"""
# Its workflow has been started, and its relay has not recorded it.
_UNMARKED: Final = """
    select exists (
        select from tenancy.outbox_messages as message
          join tenancy.processed_events as event
            on event.tenant_id = message.tenant_id
           and event.consumer = message.job
           and event.event_id = message.key
         where message.key like %(keys)s and message.status = 'processing'
           and message.job = %(job)s
    ) as found
"""
# As if no relay had ever claimed them, and in another order.
_FORGET: Final = """
    update tenancy.outbox_messages
       set status = 'pending', completed_at = null, lease_until = null, workflow_id = null,
           scheduled_at = now() - random() * interval '1 minute'
     where key like %(keys)s and status in ('processing', 'completed') and random() < 0.6
"""
_LOCK_ROWS: Final = """
    select from tenancy.outbox_messages
     where tenant_id = %(tenant)s and status in ('pending', 'failed', 'processing')
       for update
"""
_UNREADABLE_LETTERS: Final = """
    select count(*) as letters from tenancy.dead_letters
     where split_part(workflow_id, '/', 3) like %(keys)s and error_type = 'PayloadUnreadable'
"""
_STARTED: Final = """
    select tenant_id, id, job, key, payload::text as payload, priority, attempts, correlation_id
      from tenancy.outbox_messages
     where key like %(keys)s and status = 'completed' and job = %(job)s
"""


@dataclass(frozen=True)
class Stage:
    """The servers of a scenario."""

    servers: Servers
    scenario: Scenario
    tenants: list[str]
    plan: Plan
    clients: Database  # through the proxy
    door: CommitProxy

    async def first(self, rows: Rows, statement: str, **values: object) -> DictRow:
        """Returns the one row of a statement above."""
        keys = f"{self.plan.prefix}%"
        values = {"keys": keys, "effect": EFFECT, "job": ALONE, "tenants": self.tenants} | values
        row = await (await rows.execute(statement, values)).fetchone()
        assert row is not None
        return row

    async def until(self, holds: Callable[[DictRow], bool], tenants: list[str]) -> None:
        """Waits until a condition holds for the progress of some tenants' messages."""
        async with self.servers.everything() as rows:
            while not holds(  # noqa: ASYNC110  # other processes are at work
                await self.first(rows, _PROGRESS, tenants=tenants)
            ):
                await asyncio.sleep(LOOK)

    async def until_done(self, tenants: list[str]) -> None:
        """Waits until some tenants' messages have ended, all that will be accepted.

        A run whose dead letter could not be written in time leaves it to the sweep, which is
        scheduled where there are schedules.
        """
        count = len(self.plan.of(tenants))
        waiting = asyncio.create_task(
            self.until(
                lambda row: row["open"] == 0 and row["effects"] + row["letters"] >= count, tenants
            )
        )
        try:
            while not (await asyncio.wait({waiting}, timeout=SWEPT_EVERY))[0]:
                await sweep(self.servers)
            await waiting
        finally:
            waiting.cancel()

    async def is_done(self) -> bool:
        """Returns whether all messages have ended."""
        async with self.servers.everything() as rows:
            row = await self.first(rows, _PROGRESS)
        return bool(row["effects"] + row["letters"] >= len(self.plan.accepted))


async def run_messages(servers: Servers, seed: int) -> Outcome:
    """Has messages handled while something goes wrong, and checks the result."""
    scenario = Scenario.of(seed)
    since = datetime.now(UTC)
    every = servers.tenants
    tenants = [every[(seed + number) % len(every)] for number in range(TENANTS)]
    wanted = plan(seed, tenants)
    hit = False
    found: list[str] = []
    with noting(found):
        async with asyncio.timeout(PATIENCE), _clients(servers) as (door, clients):
            stage = Stage(servers, scenario, tenants, wanted, clients, door)
            await _have_processes(stage)
            await Admission(servers.database).set_cap(tenants[-1], CAP)
            await ask(clients, wanted.before)
            await stage.until(lambda row: bool(row["effects"] >= scenario.after), tenants)
            async with asyncio.TaskGroup() as group:
                group.create_task(ask(clients, wanted.meanwhile))
                hit = await _strike(stage)
            await _have_processes(stage)
            await stage.until_done(tenants)
            await sweep(servers)
    found += ended_by_themselves(servers)
    with noting(found):
        async with servers.everything() as everything:
            found += await problems(everything, servers.client, Asked.of(wanted, since))
    return Outcome(found, hit)


@asynccontextmanager
async def _clients(servers: Servers) -> AsyncIterator[tuple[CommitProxy, Database]]:
    """A proxy for clients of PostgreSQL that can be cut separately."""
    async with await CommitProxy().start(servers.postgres.port) as door:
        url = make_url(servers.postgres.tenant_url).set(port=door.port)
        clients = Database(tenant_url=url.render_as_string(hide_password=False))
        try:
            yield door, clients
        finally:
            await clients.dispose()


async def _have_processes(stage: Stage) -> None:
    await asyncio.gather(
        stage.servers.have_workers(stage.scenario.workers), stage.servers.have_relays(RELAYS)
    )


async def sweep(servers: Servers) -> None:
    """Finds the dead letters that runs could not write while a server was down."""
    with use_database(servers.database):
        until = asyncio.get_running_loop().time() + SWEEP_SECONDS
        await Sweep(servers.client).find(datetime.now(UTC), until=until)


async def _strike(stage: Stage) -> bool:
    """Causes one fault, and repairs what does not recover; returns whether it hit."""
    servers, scenario = stage.servers, stage.scenario
    match scenario.kind:
        case Kind.KILL_WORKERS:
            hit = not await stage.is_done()
            await servers.kill_workers(scenario.killed)
            await servers.have_workers(scenario.workers)
            return hit
        case Kind.KILL_RELAYS:
            return await _kill_relays(stage)
        case Kind.KILL_ONE_RELAY:
            return await _kill_one_relay(stage)
        case Kind.FREEZE_RELAY:
            return await _freeze_relay(stage)
        case Kind.CRASH_TEMPORAL:
            hit = not await stage.is_done()
            await servers.crash_temporal()
            return hit
        case Kind.CRASH_POSTGRES:
            hit = not await stage.is_done()
            await servers.crash_postgres()
            return hit
        case Kind.TERMINATE_SESSIONS:
            hit = not await stage.is_done()
            until = time.monotonic() + scenario.seconds
            while time.monotonic() < until:
                await servers.terminate_sessions()
                await asyncio.sleep(STORM_INTERVAL)
            return hit
        case Kind.CUT_CLIENT:
            return await _cut_commit(stage, stage.door, TENANT)
        case Kind.CUT_RELAY:
            return await _cut_commit(stage, servers.proxy, RELAY)
        case Kind.CUT_WORKER:
            return await _cut_commit(stage, servers.proxy, TENANT)
        case Kind.DELIVER_AGAIN:
            return await _deliver_again(stage)
        case Kind.SEND_UNREADABLE:
            return await _send_unreadable(stage)
        case Kind.HOLD_LOCKS:
            return await _hold_locks(stage)
        case Kind.HOLD_BACK:
            return await _hold_back(stage)


async def _kill_relays(stage: Stage) -> bool:
    """Kills relays while they cannot record their starts; returns whether they had any."""
    async with stage.servers.everything() as rows:
        for _ in range(TRIES):
            while not (await stage.first(rows, _IN_HAND))["found"]:
                if await stage.is_done():
                    break
            async with rows.transaction():
                await rows.execute("lock table tenancy.outbox_messages in share mode")
                until = time.monotonic() + CAUGHT_WITHIN
                while time.monotonic() < until:
                    if (await stage.first(rows, _UNMARKED))["found"]:
                        await stage.servers.kill_relays(RELAYS)
                        return True
                    if not (await stage.first(rows, _IN_HAND))["found"]:
                        break
                    await asyncio.sleep(LOOK)
    await stage.servers.kill_relays(RELAYS)
    return False


async def _kill_one_relay(stage: Stage) -> bool:
    """Kills relays while Temporal is down; returns whether they had anything to start."""
    servers = stage.servers
    hit = False
    await asyncio.to_thread(servers.temporal.kill)
    try:
        async with servers.everything() as rows:
            for _ in range(TRIES):
                hit |= bool((await stage.first(rows, _IN_HAND))["found"])
                await asyncio.sleep(LOOK)  # has time to record a start too early
        await servers.kill_relays(1)
    finally:
        await asyncio.to_thread(servers.temporal.start)
    return hit


async def _freeze_relay(stage: Stage) -> bool:
    """Stops a relay until another takes over its messages, then continues it."""
    hit = not await stage.is_done()
    relay = stage.servers.relays[0]
    relay.send(signal.SIGSTOP)
    await asyncio.sleep(LEASE.total_seconds() + stage.scenario.seconds)
    relay.send(signal.SIGCONT)
    return hit


async def _cut_commit(stage: Stage, proxy: CommitProxy, role: str) -> bool:
    proxy.arm(role, stage.scenario.number)
    ends = [
        asyncio.create_task(proxy.cut.wait()),
        asyncio.create_task(stage.until_done(stage.tenants)),
    ]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        proxy.disarm()
    return proxy.cut.is_set()


async def _deliver_again(stage: Stage) -> bool:
    """Makes the relays forget their starts, and start everything again in any order."""
    chance = random.Random(stage.scenario.seed)
    async with stage.servers.everything() as rows:
        started = await (
            await rows.execute(_STARTED, {"keys": f"{stage.plan.prefix}%", "job": ALONE})
        ).fetchall()
        await rows.execute("select setseed(%s)", [chance.random()])
        forgotten = await rows.execute(_FORGET, {"keys": f"{stage.plan.prefix}%"})
    units = [Unit(str(each.own_id), [each]) for each in (Message(**row) for row in started)]
    copies = units * COPIES
    chance.shuffle(copies)
    await asyncio.gather(*(start_unit(stage.servers.client, unit, LADDER) for unit in copies))
    return forgotten.rowcount > 0


async def _send_unreadable(stage: Stage) -> bool:
    """Makes a tenant write unreadable messages, and waits until each is a dead letter."""
    hit = not await stage.is_done()
    tenant, seed = stage.tenants[0], stage.scenario.seed
    for number, name in enumerate(UNREADABLE):
        job = (ALONE, TOGETHER, AT_ONCE)[number % 3]
        key = f"'unreadable-{seed}-{number}'"
        columns = HOSTILE[name].columns
        await insert(stage.servers.database, tenant, **columns, job=f"'{job}'", key=key)
    async with stage.servers.everything() as rows:
        keys = {"keys": f"unreadable-{seed}-%"}
        while (  # noqa: ASYNC110  # other processes are at work
            await stage.first(rows, _UNREADABLE_LETTERS, **keys)
        )["letters"] < len(UNREADABLE):
            await asyncio.sleep(LOOK)
    return hit


async def _hold_locks(stage: Stage) -> bool:
    """Locks all rows of a tenant until all messages of the others are handled."""
    locker, *others = stage.tenants
    async with stage.servers.everything() as rows, rows.transaction():
        held = await rows.execute(_LOCK_ROWS, {"tenant": locker})
        await stage.until_done(others)
    return held.rowcount > 0


async def _hold_back(stage: Stage) -> bool:
    """Holds two tenants back until all messages of the others are handled."""
    servers, (suspended, paused, *others) = stage.servers, stage.tenants
    tenants, admission = Tenants(servers.database), Admission(servers.database)
    await tenants.set_status(suspended, TenantStatus.SUSPENDED)
    await admission.pause(paused, "a test")
    await stage.until_done(others)
    async with servers.everything() as rows:
        waits = [
            (await stage.first(rows, _PROGRESS, tenants=[each]))["open"] > 0
            for each in (suspended, paused)
        ]
    await admission.resume(paused)
    await tenants.resume(suspended)
    async with asyncio.TaskGroup() as group:
        releasing = group.create_task(_release(servers, suspended))
        await stage.until_done([suspended, paused])
        releasing.cancel()
    return all(waits)


async def _release(servers: Servers, tenant: str) -> None:
    """Releases what waits in running workflows; some activities may not wait yet."""
    while True:
        await release(servers.client, tenant)
        await asyncio.sleep(LEASE.total_seconds())

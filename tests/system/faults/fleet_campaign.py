"""Random jobs and random trouble over tenants of all isolations; a seed determines what happens."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy.exc import DBAPIError

from dev.devstack.postgres import PLATFORM, RELAY, TENANT
from saas.database.environment import TENANT_DATA
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import STATE_CACHE_SECONDS, TenantStatus
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.sdk.suspension import release
from temporal_tenancy.stores import ControlPlaneStores, FileConnectionSecrets, upgrade_stores
from temporal_tenancy.stores.preparation import Preparation
from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.campaign import STORM_INTERVAL, ended_by_themselves, noting
from tests.system.faults.fleet_jobs import OPEN, Fleet
from tests.system.faults.message_asks import Name, Plan, Transaction, ask, plan
from tests.system.faults.message_campaign import VARIABLES, sweep
from tests.system.faults.message_checker import EFFECTS, counted
from tests.system.faults.message_jobs import EFFECT
from tests.system.faults.servers import Servers, running_servers

MODULE: Final = "tests.system.faults.fleet_process"
OF_EACH: Final = 2  # tenants of an isolation
WORKERS: Final = 2
RELAYS: Final = 2
MORE: Final = 3  # troubles beside one of each kind
PATIENCE: Final = 300.0  # seconds until all messages have ended
LOOK: Final = 0.2  # seconds
RELEASES: Final = 2.0  # seconds between two releases of what waits

_END_SESSIONS: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and usename = any(%s)
"""
_MOVES: Final = (
    "create table {}_notes (tenant_id text primary key)",
    "alter table audit_entries add column {} text",  # a table at which everybody is at work
)


class Trouble(StrEnum):
    """What can happen to a fleet."""

    KILL_WORKER = "kill a worker"
    KILL_RELAY = "kill a relay"
    STORE_AWAY = "take a tenant's database away"
    SUSPEND = "suspend a tenant"  # for longer than what may still begin
    MIGRATE = "migrate all stores"
    TERMINATE_SESSIONS = "terminate sessions"  # again and again for a while
    CRASH_POSTGRES = "crash PostgreSQL"  # and start it on the same data


@dataclass(frozen=True)
class Step:
    """One trouble, for some seconds, of one tenant."""

    trouble: Trouble
    tenant: int  # counted around
    pause: float  # seconds before
    seconds: float

    def __str__(self) -> str:
        return f"{self.trouble} (tenant {self.tenant}, {self.pause:.1f} s, {self.seconds:.1f} s)"


def steps_of(seed: int) -> list[Step]:
    """Returns the troubles of a seed: each kind, and some kinds more often, in any order."""
    chance = random.Random(seed)
    again = [kind for kind in Trouble if kind is not Trouble.MIGRATE]  # to the newest, once
    kinds = [*Trouble, *chance.choices(again, k=MORE)]
    chance.shuffle(kinds)
    return [
        Step(kind, chance.randrange(100), chance.uniform(0, 0.5), chance.uniform(0.5, 2))
        for kind in kinds
    ]


@dataclass(frozen=True)
class Suspension:
    """From when on nothing may begin for a tenant, until when, by the database's clock."""

    tenant: str
    since: datetime
    until: datetime


@dataclass
class Campaign:
    """The servers and the fleet of one seed."""

    servers: Servers
    fleet: Fleet
    folder: Path  # for migrations, which Python imports from there
    seed: int
    steps: Sequence[Step]
    wanted: Plan
    suspensions: list[Suspension] = field(default_factory=list)

    @property
    def transactions(self) -> list[Transaction]:
        """Everything that clients ask for."""
        return [*self.wanted.before, *self.wanted.meanwhile]

    async def run(self, patience: float) -> list[str]:
        """Does all steps, waits until the messages have ended, and returns what is wrong."""
        found: list[str] = []
        began = time.monotonic()

        def say(what: object) -> None:
            print(f"{time.monotonic() - began:5.1f} s: {what}")  # shown if the seed fails

        with noting(found):
            await asyncio.gather(
                self.servers.have_workers(WORKERS), self.servers.have_relays(RELAYS)
            )
            say("the processes are ready")
            for number, step in enumerate(self.steps):
                await self._do(step, self.transactions[number :: len(self.steps)])
                say(step)
            async with asyncio.timeout(patience):
                await self.until_done()
            say("all messages have ended")
        found += ended_by_themselves(self.servers)
        with noting(found):
            found += await asyncio.to_thread(self.wrong)
        return found

    async def _do(self, step: Step, asked: Sequence[Transaction]) -> None:
        """Has clients ask while something goes wrong; the first error of the two is raised."""
        late: list[Transaction] = []
        if step.trouble is Trouble.SUSPEND:
            # There must be something to do for it while it is suspended.
            owners = sorted({each.tenant for each in asked if each.commits})
            owner = owners[step.tenant % len(owners)]
            late = [each for each in asked if each.tenant == owner]
            asked = [each for each in asked if each.tenant != owner]
        clients = asyncio.create_task(ask(self.fleet.database, asked))
        try:
            await asyncio.sleep(step.pause)
            await self.strike(step, late)
            await clients
        finally:
            clients.cancel()
            await asyncio.gather(clients, return_exceptions=True)

    async def strike(self, step: Step, late: Sequence[Transaction]) -> None:
        """Causes one trouble, and repairs what does not recover.

        `late` is what a tenant asks for while it is suspended.
        """
        servers = self.servers
        match step.trouble:
            case Trouble.KILL_WORKER:
                await servers.kill_workers(1)
                await servers.have_workers(WORKERS)
            case Trouble.KILL_RELAY:
                await servers.kill_relays(1)
                await servers.have_relays(RELAYS)
            case Trouble.STORE_AWAY:
                await self._take_away(self._own(step.tenant), step.seconds)
            case Trouble.SUSPEND:
                await self._suspend(late, step.seconds)
            case Trouble.MIGRATE:
                await self.migrate()
            case Trouble.TERMINATE_SESSIONS:
                until = time.monotonic() + step.seconds
                while time.monotonic() < until:
                    await servers.terminate_sessions()
                    await asyncio.sleep(STORM_INTERVAL)
            case Trouble.CRASH_POSTGRES:
                await servers.crash_postgres()

    async def migrate(self) -> None:
        """Migrates the shared tables and all stores, with a table that is in use."""
        application = [TENANT_DATA, _more_migrations(self.folder, self.seed)]
        urls = self.fleet.urls
        await asyncio.to_thread(
            migrate,
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            relay_url=urls.relay,
            application=application,
        )
        while (await asyncio.to_thread(upgrade_stores, urls.owner, application=application)).left:
            pass  # a store whose tables stayed locked

    async def until_done(self) -> None:
        """Waits until all accepted messages have ended, and releases what waits meanwhile."""
        suspended = {each.tenant for each in self.suspensions}
        released = 0.0
        while not await asyncio.to_thread(self._is_done):
            if time.monotonic() - released > RELEASES:
                for tenant in suspended:
                    await release(self.servers.client, tenant)
                await sweep(self.servers)  # what runs could not write while a server was down
                released = time.monotonic()
            await asyncio.sleep(LOOK)

    def effects(self) -> list[dict[str, Any]]:
        """Returns each message's effect, with its time, from all stores."""
        found: list[dict[str, Any]] = []
        keys = {"effect": EFFECT, "keys": f"{self.wanted.prefix}%"}
        query = EFFECTS.replace("select ", "select at, ", 1)
        for tenant in self.fleet.tenants:
            with (
                self.fleet.opened(self.fleet.place_of(tenant)) as everything,
                everything.cursor(row_factory=dict_row) as cursor,
            ):
                rows = cursor.execute(query.encode(), keys).fetchall()
            found += [row for row in rows if row["tenant_id"] == tenant]
        return found

    def letters(self) -> list[Name]:
        """Returns whose dead letters there are."""
        found = [Name(*workflow_id.split("/", 2)) for workflow_id, *_ in self.fleet.dead_letters()]
        return [name for name in found if name.key.startswith(self.wanted.prefix)]

    def wrong(self) -> list[str]:
        """Returns what is not as it has to be in the end, a sentence each."""
        accepted = self.wanted.accepted
        sound = {name for name, poison in accepted.items() if poison is None}
        effects = self.effects()
        named = [Name(row["tenant_id"], row["job"], row["key"]) for row in effects]
        found = self.fleet.strangers_rows()
        found += counted(sound, named, "effects")
        found += counted(set(accepted) - sound, self.letters(), "dead letters")
        statuses: Counter[Name] = Counter()
        for tenant, job, key, status in self.fleet.messages():
            name = Name(tenant, job, key)
            if not key.startswith(self.wanted.prefix):
                continue  # of an earlier seed
            statuses[name] += 1
            if name not in accepted:
                found.append(f"{name.workflow_id} was never asked for.")
            elif status not in ("completed", "dead_letter"):
                found.append(f"{name.workflow_id} is {status}.")
        found += [f"{name.workflow_id} is lost." for name in sorted(set(accepted) - set(statuses))]
        for row, name in zip(effects, named, strict=True):
            if {row["actor"], row["owner"]} != {row["tenant_id"]}:
                found.append(
                    f"{name.workflow_id} is {row['owner']}'s, and was done by {row['actor']}."
                )
            found += [
                f"{name.workflow_id} began at {row['at']}, and {each.tenant} was suspended from "
                f"{each.since} until {each.until}."
                for each in self.suspensions
                if each.tenant == name.tenant and each.since < row["at"] < each.until
            ]
        return found

    def _is_done(self) -> bool:
        if any(status in OPEN for *_, status in self.fleet.messages()):
            return False
        return len(self.effects()) + len(self.letters()) >= len(self.wanted.accepted)

    def _own(self, number: int) -> str:
        """Returns a tenant with a database of its own."""
        own = [
            tenant
            for tenant in self.fleet.tenants
            if self.fleet.place_of(tenant).isolation is Isolation.DATABASE
        ]
        return own[number % len(own)]

    async def _take_away(self, tenant: str, seconds: float) -> None:
        """Lets nobody into a tenant's database for a while."""
        name = psycopg.conninfo.conninfo_to_dict(
            self.fleet.place_of(tenant).urls.superuser.replace("+psycopg", "")
        )["dbname"]
        allow = "alter database {} with allow_connections {}"
        database = sql.Identifier(str(name))
        async with self.servers.everything() as everything:
            await everything.execute(sql.SQL(allow).format(database, sql.SQL("false")))
            try:
                await everything.execute(_END_SESSIONS, [name, [TENANT, PLATFORM, RELAY]])
                await asyncio.sleep(seconds)
            finally:
                await everything.execute(sql.SQL(allow).format(database, sql.SQL("true")))

    async def _suspend(self, late: Sequence[Transaction], seconds: float) -> None:
        """Suspends the tenant of `late`, which it asks for meanwhile."""
        [tenant] = {each.tenant for each in late}
        tenants = Tenants(self.fleet.database)
        await _insisting(lambda: tenants.set_status(tenant, TenantStatus.SUSPENDED))
        # What was checked before may begin for as long as the answer is kept.
        since = await self._now() + timedelta(seconds=STATE_CACHE_SECONDS)
        await asyncio.sleep(STATE_CACHE_SECONDS)
        await ask(self.fleet.database, late)
        await asyncio.sleep(seconds)
        self.suspensions.append(Suspension(tenant, since, await self._now()))
        await _insisting(lambda: tenants.resume(tenant))

    async def _now(self) -> datetime:
        async with self.servers.everything() as everything:
            row = await (await everything.execute("select clock_timestamp() as now")).fetchone()
        assert row is not None
        now: datetime = row["now"]
        return now


class Fleets:
    """One fleet for seed after seed, and a new one after a seed that failed."""

    def __init__(self, directory: Path, warm: WarmPrograms) -> None:
        self._directory, self._warm = directory, warm
        self._open = AsyncExitStack()
        self._place: tuple[Servers, Fleet] | None = None

    async def run(self, seed: int) -> list[str]:
        """Has messages handled while all goes wrong that a seed says; returns what is wrong."""
        if self._place is None:
            directory = self._directory / f"fleet-of-{seed}"
            directory.mkdir()
            place = running_fleet(directory, self._warm)
            self._place = await self._open.enter_async_context(place)
        servers, fleet = self._place
        wanted = plan(seed, fleet.tenants)
        campaign = Campaign(servers, fleet, self._directory, seed, steps_of(seed), wanted)
        sound = False
        try:
            found = await campaign.run(PATIENCE)
            sound = not found
        finally:
            if not sound:
                await self.close()
        return found

    async def stopped(self) -> list[int]:
        """Asks the processes to end; returns their exit codes."""
        codes = [] if self._place is None else await self._place[0].stop_processes()
        await self.close()
        return codes

    async def close(self) -> None:
        """Ends everything."""
        self._place = None
        await self._open.aclose()


async def _insisting(work: Callable[[], Awaitable[object]]) -> None:
    """Does it again while the connection is one that an earlier trouble has ended."""
    while True:
        try:
            await work()
        except (DatabaseProblem, DBAPIError):
            await asyncio.sleep(LOOK)
        else:
            return


@asynccontextmanager
async def running_fleet(
    directory: Path, warm: WarmPrograms
) -> AsyncIterator[tuple[Servers, Fleet]]:
    """Runs servers with a fleet, and no workers and relays yet."""
    connections = directory / "connections"
    variables = {
        "CONNECTIONS_URL": connections.as_uri(),
        "RELAY_STORE_POLL": "PT0.2S",
        **VARIABLES,
    }
    async with running_servers(directory, module=MODULE, warm=warm, **variables) as servers:
        urls, secrets = servers.postgres.urls(), FileConnectionSecrets(connections)
        await asyncio.to_thread(_prepare, servers, secrets)
        database = Database(
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            stores=lambda made: ControlPlaneStores(made, secrets),
        )
        try:
            fleet = Fleet(servers.postgres, urls, database, secrets)
            for isolation in Isolation:
                await fleet.sign_up(isolation, OF_EACH, directory / "secrets")
            yield servers, fleet
        finally:
            with suppress(DatabaseProblem):
                await database.dispose()


def _prepare(servers: Servers, secrets: FileConnectionSecrets) -> None:
    urls = servers.postgres.urls()
    preparation = Preparation(
        urls.owner,
        application=[TENANT_DATA],
        tenant_url=urls.tenant,
        platform_url=urls.platform,
        relay_url=urls.relay,
        secrets=secrets,
    )
    for isolation in (Isolation.SCHEMA, Isolation.DATABASE):
        for _ in range(OF_EACH):
            preparation.prepare(isolation)


def _more_migrations(folder: Path, seed: int) -> MigrationEnvironment:
    """Writes a package with migrations that no process needs; returns their environment."""
    name = f"fleet_{seed}"
    package = f"{name}_{uuid4().hex}"  # of its own name: Python keeps what it has imported
    versions = folder / package / "migrations" / "versions"
    versions.mkdir(parents=True)
    (folder / package / "__init__.py").write_text('"""More tables."""\n')
    (folder / package / "migrations" / "env.py").write_text(
        "from sqlalchemy import MetaData\n"
        "from temporal_tenancy.postgres import run_migrations\n"
        "run_migrations(MetaData())\n"
    )
    before = None
    for number, statement in enumerate(_MOVES, start=1):
        (versions / f"{number:04}_x.py").write_text(
            f"from alembic import op\nrevision = '{number:04}'\ndown_revision = {before!r}\n"
            f"def upgrade() -> None:\n    op.execute({statement.format(name)!r})\n"
        )
        before = f"{number:04}"
    return MigrationEnvironment(name, f"{package}:migrations", f"{name}_version")

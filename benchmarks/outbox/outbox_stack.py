"""A database with an outbox and tenants, and the processes that use it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy import make_url
from temporalio.client import Client

from benchmarks.outbox.outbox_jobs import OUTBOX_JOBS  # noqa: F401  # importing registers the jobs
from benchmarks.shared.fan_outs import add_tenants
from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from temporal_tenancy import (
    Database,
    TenantScope,
    TenantStatus,
    enter,
    tenant_session,
    use_database,
)
from temporal_tenancy.outbox import Relay, RelayOptions, enqueue_many
from temporal_tenancy.outbox.relay.connections import relay_database as relay_database_of

LOOK: Final = 0.02  # seconds between polls
READY: Final = "ready"  # printed by a benchmark's process once it takes work
FINISHED: Final = 20_000  # completed jobs in a table's history

# Fills the table as it looks in use, with completed messages that are not deleted yet.
_HISTORY: Final = """
    insert into tenancy.outbox_messages
        (tenant_id, job, key, payload, status, attempts, dequeued_at, last_attempt_at, completed_at)
    select %s, 'bench.small', 'old-' || n, '{"number": 1}', 'completed', 1, now(), now(), now()
    from generate_series(1, %s) as n
"""
_OPEN: Final = """
    select count(*) from tenancy.outbox_messages where status in ('pending', 'failed', 'processing')
"""

Connection = psycopg.AsyncConnection[TupleRow]


@dataclass
class Outbox:
    """The outbox of one database."""

    servers: Servers
    urls: DatabaseUrls
    database: Database  # as the tenant and platform roles
    relay_database: Database  # the same database as the relay's role
    tenants: Sequence[str]
    everything: Connection  # the superuser's, which sees all rows
    _processes: ExitStack = field(default_factory=ExitStack)

    async def ask(
        self,
        tenant: str,
        job: str,
        inputs: Sequence[Mapping[str, Any]],
        keys: Sequence[str] | None = None,
    ) -> None:
        """Enqueues jobs of one tenant in one transaction, one per input."""
        with use_database(self.database), enter(TenantScope(tenant)):
            async with tenant_session():
                await enqueue_many(job, inputs, keys=keys)

    async def has_history(self) -> None:
        """Fills the table with completed messages, and analyses it."""
        await self.everything.execute(_HISTORY, [self.tenants[0], FINISHED])
        await self.everything.execute("vacuum (analyze) tenancy.outbox_messages")

    async def open_messages(self) -> int:
        """Returns the number of messages that are neither completed nor dead letters."""
        return int(await value_of(self.everything, _OPEN))

    async def until_worked_off(self) -> None:
        """Waits until no message is open."""
        while await self.open_messages():  # noqa: ASYNC110  # another process sends no event
            await asyncio.sleep(LOOK)

    async def client(self) -> Client:
        """Returns a client like that of the relay's process."""
        return await self.servers.our_client(self.relay_database)

    def relay(self, client: Client, options: RelayOptions, **deliver: Any) -> Relay:
        """Returns a relay in this process; `deliver` is passed on to `Relay`."""
        return Relay(client, self.urls.relay, options=options, **deliver)

    async def process(self, role: str, *, module: str = "outbox_process") -> OwnedProcess:
        """Starts a module of this package as a process, with the argument `role`.

        Returns once the process takes work.
        """
        number = len(list(self.servers.directory.glob("process-*.log")))
        process = OwnedProcess(
            [sys.executable, "-m", f"benchmarks.outbox.{module}", role],
            log=self.servers.directory / f"process-{number}.log",
            environ={
                **os.environ,
                "TENANT_DATABASE_URL": self.urls.tenant,
                "PLATFORM_DATABASE_URL": self.urls.platform,
                "RELAY_DATABASE_URL": self.urls.relay,
                "DATABASE_URL": self.urls.owner,
                "TEMPORAL_ADDRESS": self.servers.temporal_address,
            },
        )
        self._processes.callback(process.kill)
        while READY not in process.log_tail():  # another process sends no event
            assert process.running, process.log_tail()
            await asyncio.sleep(LOOK)
        return process

    def stop_processes(self) -> None:
        """Kills every process that was started here."""
        self._processes.close()


@asynccontextmanager
async def outbox(servers: Servers, name: str, tenants: Sequence[str]) -> AsyncIterator[Outbox]:
    """Creates a database with active `tenants`; its processes end with the block."""
    urls = servers.new_database(name)
    database = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    relay_database = relay_database_of(urls.relay)
    try:
        await add_tenants(database, tenants, TenantStatus.ACTIVE)
        async with await psycopg.AsyncConnection.connect(
            driver_url(urls.superuser), autocommit=True
        ) as (everything):
            outbox = Outbox(servers, urls, database, relay_database, tenants, everything)
            try:
                yield outbox
            finally:
                outbox.stop_processes()
    finally:
        await database.dispose()
        await relay_database.dispose()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    """Runs `relay` in this process during the block."""
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        relay.stop()
        await task


async def value_of(connection: Connection, query: str) -> Any:  # of any type
    """Returns the single value that a query selects."""
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


def driver_url(url: str) -> str:
    """Returns the URL in the form that psycopg accepts."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

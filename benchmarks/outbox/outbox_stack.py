"""A database with an outbox, its tenants, and the processes that work on it."""

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

from benchmarks.outbox.outbox_jobs import OUTBOX_JOBS  # noqa: F401  # known once they are imported
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

LOOK: Final = 0.02  # seconds
READY: Final = "ready"  # what a process of ours prints
FINISHED: Final = 20_000  # jobs that a table has behind it

# As a table looks that has been in use: what is done with is not deleted yet.
_HISTORY: Final = """
    insert into outbox_messages
        (tenant_id, job, key, payload, status, attempts, dequeued_at, last_attempt_at, completed_at)
    select %s, 'bench.small', 'old-' || n, '{"number": 1}', 'completed', 1, now(), now(), now()
    from generate_series(1, %s) as n
"""
_OPEN: Final = """
    select count(*) from outbox_messages where status in ('pending', 'failed', 'processing')
"""

Connection = psycopg.AsyncConnection[TupleRow]


@dataclass
class Outbox:
    """The outbox of one database."""

    servers: Servers
    urls: DatabaseUrls
    database: Database  # the tenants', and the control plane
    relay_database: Database  # the same as the relay's role has it
    tenants: Sequence[str]
    everything: Connection  # as the superuser
    _processes: ExitStack = field(default_factory=ExitStack)

    async def ask(
        self,
        tenant: str,
        job: str,
        inputs: Sequence[Mapping[str, Any]],
        keys: Sequence[str] | None = None,
    ) -> None:
        """Asks for jobs of one tenant, in one transaction."""
        with use_database(self.database), enter(TenantScope(tenant)):
            async with tenant_session():
                await enqueue_many(job, inputs, keys=keys)

    async def has_history(self) -> None:
        """Fills the table with what is done with, and analyses it."""
        await self.everything.execute(_HISTORY, [self.tenants[0], FINISHED])
        await self.everything.execute("vacuum (analyze) outbox_messages")

    async def open_messages(self) -> int:
        """How many messages are neither done with nor dead letters."""
        return int(await value_of(self.everything, _OPEN))

    async def until_worked_off(self) -> None:
        """Waits until nothing is open any more."""
        while await self.open_messages():  # noqa: ASYNC110  # another process has no event
            await asyncio.sleep(LOOK)

    async def client(self) -> Client:
        """A client as the relay's process has it."""
        return await self.servers.our_client(self.relay_database)

    def relay(self, client: Client, options: RelayOptions, **deliver: Any) -> Relay:
        """A relay in this process; `deliver` is the relay's own argument."""
        return Relay(client, self.urls.relay, options=options, **deliver)

    async def process(self, role: str, *, module: str = "outbox_process") -> OwnedProcess:
        """Starts a module of this package as a process; returns once it takes work."""
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
        while READY not in process.log_tail():  # another process has no event
            assert process.running, process.log_tail()
            await asyncio.sleep(LOOK)
        return process

    def stop_processes(self) -> None:
        """Ends every process that was started here."""
        self._processes.close()


@asynccontextmanager
async def outbox(servers: Servers, name: str, tenants: Sequence[str]) -> AsyncIterator[Outbox]:
    """A database of that name with active `tenants`; what was started on it ends with the block."""
    urls = servers.new_database(name)
    database = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    relay_database = relay_database_of(urls.relay)
    try:
        await add_tenants(database, tenants, TenantStatus.ACTIVE)
        async with await psycopg.AsyncConnection.connect(
            plain(urls.superuser), autocommit=True
        ) as (everything):
            made = Outbox(servers, urls, database, relay_database, tenants, everything)
            try:
                yield made
            finally:
                made.stop_processes()
    finally:
        await database.dispose()
        await relay_database.dispose()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    """Runs a relay of this process inside the block."""
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        relay.stop()
        await task


async def value_of(connection: Connection, query: str) -> Any:  # of any type
    """The one value that a query has."""
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


def plain(url: str) -> str:
    """The URL as psycopg takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

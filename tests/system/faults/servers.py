"""Servers, workers and relays of one test, which can be killed and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import DictRow, dict_row
from sqlalchemy import make_url
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from dev.devstack.postgres import PLATFORM, RELAY, TENANT, EmbeddedPostgres
from dev.devstack.stack import Stack
from dev.devstack.temporal_kinds import make_temporal
from dev.devstack.temporal_part import TemporalPart
from dev.sample_data.load import make_up_tenants
from saas.database.environment import TENANT_DATA
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.migrations import migrate
from tests.fixtures.saas import saas_plugin
from tests.fixtures.warm_programs import WarmPrograms
from tests.fixtures.worker_process import ROOT, WorkerProcess
from tests.system.faults.proxy import CommitProxy

TENANTS: Final = 16

# What a call answers whose Temporal server is away, has just come back, or died meanwhile.
_AWAY: Final = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
)

# The working processes; the superuser that looks on is not one of them.
_TERMINATE: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity where usename = any(%s)
"""

# Alembic keeps its state in the module.
_MIGRATING: Final = threading.Lock()


@dataclass
class Servers:
    """A Temporal and a PostgreSQL that survives crashes, and their workers and relays."""

    directory: Path
    postgres: EmbeddedPostgres
    temporal: TemporalPart
    proxy: CommitProxy  # between the workers and PostgreSQL
    module: str  # of a worker's command and of a relay's
    environ: dict[str, str]  # of a worker
    database: Database  # not through the proxy
    client: Client
    tenants: list[str]
    warm: WarmPrograms | None = None  # forks workers and relays; None: each is a new Python
    queues: Sequence[str] = ("bulk",)  # of a worker
    workers: list[WorkerProcess] = field(default_factory=list)
    relays: list[WorkerProcess] = field(default_factory=list)

    @property
    def processes(self) -> list[WorkerProcess]:
        """The workers and relays."""
        return [*self.workers, *self.relays]

    async def have_workers(self, count: int) -> None:
        """Waits until this many workers take work."""
        while len(self.workers) < count:
            self.workers.append(self._start("--queue", ",".join(self.queues)))
        await asyncio.gather(*(worker.until_ready() for worker in self.workers))

    async def have_relays(self, count: int) -> None:
        """Waits until this many relays take messages."""
        while len(self.relays) < count:
            self.relays.append(self._start("--relay"))
        await asyncio.gather(*(relay.until_ready() for relay in self.relays))

    async def kill_workers(self, count: int) -> None:
        """Kills the first workers, as the kernel does when it is out of memory."""
        killed, self.workers = self.workers[:count], self.workers[count:]
        await _kill(killed)

    async def kill_relays(self, count: int) -> None:
        """Kills the first relays in the same way."""
        killed, self.relays = self.relays[:count], self.relays[count:]
        await _kill(killed)

    async def crash_temporal(self) -> None:
        """Kills Temporal with SIGKILL, and restarts it on the same state and port."""
        await asyncio.to_thread(self.temporal.kill)
        await asyncio.to_thread(self.temporal.start)

    async def crash_postgres(self) -> None:
        """Kills PostgreSQL without a shutdown, and restarts it on the same data and port."""
        await asyncio.to_thread(self.postgres.stop, "immediate")
        await asyncio.to_thread(self.postgres.start)

    async def terminate_sessions(self) -> None:
        """Ends every session of the runtime roles."""
        async with self.everything() as connection:
            await connection.execute(_TERMINATE, [[TENANT, PLATFORM, RELAY]])

    @asynccontextmanager
    async def everything(self) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
        """Opens a connection as the superuser."""
        url = make_url(self.postgres.superuser_url).set(drivername="postgresql")
        async with await psycopg.AsyncConnection.connect(
            url.render_as_string(hide_password=False), row_factory=dict_row, autocommit=True
        ) as connection:
            yield connection

    async def stop_processes(self) -> list[int]:
        """Stops all workers and relays gracefully, and returns their exit codes."""
        for process in self.processes:
            process.send(signal.SIGTERM)
        return [await process.exit_code() for process in self.processes]

    def _start(self, *arguments: str) -> WorkerProcess:
        command = ["-m", self.module, *arguments]
        return WorkerProcess(command, self.directory, self.environ, self.warm)


@asynccontextmanager
async def running_servers(
    directory: Path,
    temporal_settings: Mapping[str, str] | None = None,
    /,
    *,
    module: str = "worker",
    warm: WarmPrograms | None = None,
    **variables: str,
) -> AsyncIterator[Servers]:
    """Servers with generated tenants and no workers yet; everything ends with the block.

    `temporal_settings` is dynamic configuration of Temporal, setting name to JSON value. Further
    keyword arguments are environment variables of workers and relays.
    """
    postgres = EmbeddedPostgres(directory / "postgres", owner_creates=True)
    temporal = make_temporal(directory / "temporal", durable=True, dynamic_config=temporal_settings)
    try:
        await asyncio.gather(
            asyncio.to_thread(_start_postgres, postgres), asyncio.to_thread(temporal.start)
        )
        async with await CommitProxy().start(postgres.port) as proxy:
            database = Database(tenant_url=postgres.tenant_url, platform_url=postgres.platform_url)
            servers = Servers(
                directory=directory,
                postgres=postgres,
                temporal=temporal,
                proxy=proxy,
                module=module,
                environ=_worker_environ(directory, postgres, temporal, proxy) | variables,
                database=database,
                client=await Client.connect(temporal.address, plugins=[saas_plugin(database)]),
                tenants=await make_up_tenants(database, TENANTS),
                warm=warm,
            )
            try:
                yield servers
            finally:
                for running in servers.processes:
                    await asyncio.to_thread(running.process.kill)
                await database.dispose()
    finally:
        await asyncio.to_thread(temporal.discard)
        await asyncio.to_thread(postgres.stop, "immediate")


def is_away(error: RPCError) -> bool:
    """Whether a call has failed only because the Temporal server was killed."""
    return error.status in _AWAY


async def _kill(processes: Sequence[WorkerProcess]) -> None:
    for process in processes:
        process.send(signal.SIGKILL)
    for process in processes:
        assert await process.exit_code() == -signal.SIGKILL


def _start_postgres(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    urls = postgres.urls()
    with _MIGRATING:
        migrate(
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            relay_url=urls.relay,
            application=[TENANT_DATA],
        )


def _worker_environ(
    directory: Path, postgres: EmbeddedPostgres, temporal: TemporalPart, proxy: CommitProxy
) -> dict[str, str]:
    def by_proxy(url: str) -> str:
        return make_url(url).set(port=proxy.port).render_as_string(hide_password=False)

    given = {
        **os.environ,
        "DATABASE_URL": postgres.owner_url,
        "TENANT_DATABASE_URL": by_proxy(postgres.tenant_url),
        "PLATFORM_DATABASE_URL": by_proxy(postgres.platform_url),
        "RELAY_DATABASE_URL": by_proxy(postgres.relay_url),
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": temporal.namespace,
        "WORKER_HEALTH_PORT": "0",
        "DRAIN_DELAY_SECONDS": "0",
        "PYTHONPATH": str(ROOT),
    }
    with Stack(directory / "stack", environ=given) as stack:
        return stack.process_environment()

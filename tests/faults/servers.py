"""Servers and workers of a test's own, that can be ended as a crash would and come back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import DictRow, dict_row
from sqlalchemy import make_url
from temporalio.client import Client

from database.models import TENANT_DATA
from devstack.postgres import PLATFORM, TENANT, EmbeddedPostgres
from devstack.stack import Stack
from devstack.temporal_binary import find_temporal
from devstack.temporal_server import TemporalDevServer
from sample_data.load import make_up_tenants
from temporal_tenancy.database import Database
from temporal_tenancy.migrations import migrate
from tests.faults.proxy import CommitProxy
from tests.fixtures.saas import saas_plugin
from tests.fixtures.worker_process import ROOT, WorkerProcess

TENANTS: Final = 16

# Whoever works: the superuser that looks on is none of them.
_TERMINATE: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity where usename = any(%s)
"""

# Alembic keeps what it works on in the module.
_MIGRATING: Final = threading.Lock()


@dataclass
class Servers:
    """A Temporal server on a file, a PostgreSQL that survives its crashes, and workers."""

    directory: Path
    postgres: EmbeddedPostgres
    temporal: TemporalDevServer
    proxy: CommitProxy  # between the workers and PostgreSQL
    environ: dict[str, str]  # of a worker
    database: Database  # not by way of the proxy
    client: Client
    tenants: list[str]
    workers: list[WorkerProcess] = field(default_factory=list)

    async def have_workers(self, count: int) -> None:
        """Returns once that many take work."""
        while len(self.workers) < count:
            self.workers.append(self._start_worker())
        await asyncio.gather(*(worker.until_ready() for worker in self.workers))

    async def kill_workers(self, count: int) -> None:
        """Ends the first so many, as the kernel does when it is out of memory."""
        killed, self.workers = self.workers[:count], self.workers[count:]
        for worker in killed:
            worker.send(signal.SIGKILL)
        for worker in killed:
            assert await worker.exit_code() == -signal.SIGKILL

    async def crash_temporal(self) -> None:
        """Ends Temporal by SIGKILL, and starts it on the same file and port."""
        await asyncio.to_thread(self.temporal.kill)
        await asyncio.to_thread(self.temporal.start)

    async def crash_postgres(self) -> None:
        """Ends PostgreSQL without a shutdown, and starts it on the same data and port."""
        await asyncio.to_thread(self.postgres.stop, "immediate")
        await asyncio.to_thread(self.postgres.start)

    async def terminate_sessions(self) -> None:
        """Ends every session of the runtime roles."""
        async with self.everything() as connection:
            await connection.execute(_TERMINATE, [[TENANT, PLATFORM]])

    @asynccontextmanager
    async def everything(self) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
        """A connection as the superuser."""
        url = make_url(self.postgres.superuser_url).set(drivername="postgresql")
        async with await psycopg.AsyncConnection.connect(
            url.render_as_string(hide_password=False), row_factory=dict_row, autocommit=True
        ) as connection:
            yield connection

    async def stop_workers(self) -> list[int]:
        """Asks all workers to end in order, and returns their exit codes."""
        for worker in self.workers:
            worker.send(signal.SIGTERM)
        return [await worker.exit_code() for worker in self.workers]

    def _start_worker(self) -> WorkerProcess:
        return WorkerProcess(["-m", "worker", "--queue", "bulk"], self.directory, self.environ)


@asynccontextmanager
async def running_servers(directory: Path) -> AsyncIterator[Servers]:
    """Servers with made-up tenants, and no workers yet; everything is ended after the block."""
    postgres = EmbeddedPostgres(directory / "postgres")
    temporal = TemporalDevServer(
        find_temporal(), directory / "temporal", ui=False, database_file=directory / "temporal.db"
    )
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
                environ=_worker_environ(directory, postgres, temporal, proxy),
                database=database,
                client=await Client.connect(temporal.address, plugins=[saas_plugin(database)]),
                tenants=await make_up_tenants(database, TENANTS),
            )
            try:
                yield servers
            finally:
                for worker in servers.workers:
                    await asyncio.to_thread(worker.process.kill)
                await database.dispose()
    finally:
        await asyncio.to_thread(temporal.kill)
        await asyncio.to_thread(postgres.stop, "immediate")


def _start_postgres(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    urls = postgres.urls()
    with _MIGRATING:
        migrate(
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            application=[TENANT_DATA],
        )


def _worker_environ(
    directory: Path, postgres: EmbeddedPostgres, temporal: TemporalDevServer, proxy: CommitProxy
) -> dict[str, str]:
    def by_proxy(url: str) -> str:
        return make_url(url).set(port=proxy.port).render_as_string(hide_password=False)

    given = {
        **os.environ,
        "DATABASE_URL": postgres.owner_url,
        "TENANT_DATABASE_URL": by_proxy(postgres.tenant_url),
        "PLATFORM_DATABASE_URL": by_proxy(postgres.platform_url),
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": temporal.namespace,
        "WORKER_HEALTH_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }
    with Stack(directory / "stack", environ=given) as stack:
        return stack.process_environment()

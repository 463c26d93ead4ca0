"""Collects in the background what a scrape must not ask for: a relay does so, at an interval."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from temporalio.client import Client

from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.core.failures import root_cause, type_of
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.tasks import end_tasks
from temporal_tenancy.metrics import _outbox_gauges
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics import gauges as sources
from temporal_tenancy.metrics._store import Store
from temporal_tenancy.metrics.gauges import Found
from temporal_tenancy.metrics.process_metrics import process_instruments
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.plugin import TenancyPluginBase
from temporal_tenancy.ticks.schedules import ScheduledJob, with_those_of

if TYPE_CHECKING:
    from temporal_tenancy.outbox import Relay

LOAD: Final = 20.0  # times a collection's duration is the shortest pause after it

log: Final = logging.getLogger(__name__)

Ask = Callable[[], Awaitable[Found]]


@dataclass(frozen=True)
class CollectOptions:
    """How often a relay collects gauges, and how long it waits for the answers."""

    every: timedelta = timedelta(seconds=15)  # a slow source is asked less often
    schedules_every: timedelta = timedelta(minutes=5)
    timeout: timedelta = timedelta(seconds=10)  # for each source

    def interval(self, source: str) -> timedelta:
        """Returns how often a source is asked, if it answers quickly."""
        return self.schedules_every if source == "schedules" else self.every


@asynccontextmanager
async def collecting(
    client: Client,
    database: Database,
    directory: TenantDirectory,
    *,
    queues: Collection[str] = (),
    schedules: Sequence[ScheduledJob] = (),
    migrations: Sequence[MigrationEnvironment] = (),
    options: CollectOptions | None = None,
    store: Store | None = None,
    relay: Relay | None = None,
) -> AsyncIterator[None]:
    """Collects the gauges of the outbox, the ledger, the processes, task queues and schedules.

    Each source is asked by a task of its own, during the block. One that does not answer keeps its
    last values, and `tenancy_collected_timestamp_seconds` says how old they are.

    Args:
        client: of the namespace.
        database: whose platform's role is the relay's.
        directory: of the tenants.
        queues: the task queues; empty: those of all jobs that are known.
        schedules: the application's own, as declared, to compare the server's with them. Those that
            the features of the client's plugin bring are added.
        migrations: the environments of the application's own tables.
        options: how often, and for how long.
        store: where the values go; None: the process's instruments.
        relay: the process's own, which visits tenants' own databases; None: it has none.
    """
    options = options or CollectOptions()
    every_schedule = with_those_of(schedules, _features_of(client))
    into = store or process_instruments().store

    async def outbox() -> Found:
        apart = () if relay is None else relay.store_views()
        return await _outbox_gauges.of_outbox(database, directory, apart)

    async def ledger() -> Found:
        return await sources.of_ledger(database)

    async def temporal() -> Found:
        return await sources.of_temporal(client, queues or _every_queue())

    async def drift() -> Found:
        return await sources.of_schedules(client, every_schedule)

    async def processes() -> Found:
        return await sources.of_processes(database, migrations)

    asked: dict[str, Ask] = {
        "outbox": outbox,
        "ledger": ledger,
        "processes": processes,
        "temporal": temporal,
        "schedules": drift,
    }
    tasks = [
        asyncio.create_task(_repeat(into, source, ask, options.interval(source), options.timeout))
        for source, ask in asked.items()
    ]
    try:
        yield
    finally:
        await end_tasks(*tasks)


async def _repeat(store: Store, source: str, ask: Ask, every: timedelta, within: timedelta) -> None:
    failed = False
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(within.total_seconds()):
                found = await ask()
            found[of.COLLECTED] = {(source,): sources.now()}
            store.replace(source, found)
            store.add(of.COLLECT_FAILURES, source, value=0)
            failed = False
        except Exception as error:  # of any server; the last values stay
            store.add(of.COLLECT_FAILURES, source)
            if not failed:
                fields = {"source": source, "error_type": type_of(root_cause(error))}
                log.warning("metrics.not_collected", extra=fields)
            failed = True
        took = time.monotonic() - began
        await asyncio.sleep(max(every.total_seconds(), took * LOAD))


def _features_of(client: Client) -> Sequence[Feature]:
    for plugin in client.config()["plugins"]:
        if isinstance(plugin, TenancyPluginBase):
            return plugin.features
    return ()


def _every_queue() -> Collection[str]:
    return sorted({job.queue for job in registry.values()})

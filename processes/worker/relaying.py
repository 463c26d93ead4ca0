"""Runs a relay process: its checks, its connections and its relay."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio.client import Client

from processes.connect import HOW_TO_START, connect_client, connections, plain, require_url
from processes.lifecycle.build import version_of
from processes.lifecycle.configuration import this_process
from processes.lifecycle.measuring import measuring
from processes.lifecycle.preflight import (
    check_one_database,
    refuse_owner_credentials,
    refusing,
)
from saas.database.environment import TENANT_DATA
from saas.queues import Queue
from saas.services.alert_sinks import configured_sinks
from saas.settings import Settings
from temporal_tenancy import Database
from temporal_tenancy.cli import SettingMissing
from temporal_tenancy.control_plane import ControlPlaneDirectory, announced
from temporal_tenancy.lifecycle import (
    Consumers,
    Process,
    RelayConsumer,
    probes,
    run_process,
)
from temporal_tenancy.metrics import CollectOptions, collecting
from temporal_tenancy.outbox import Relay, RelayOptions, RetryLadder
from temporal_tenancy.sdk import forward_core_logs, require_search_attributes
from workflows.schedules import SCHEDULES

QUEUE: Final = "outbox"  # shown where a worker shows its task queue
DIRECTORY_CONNECTIONS: Final = 2  # its answers are cached, and what is asked at once is one query


@dataclass(frozen=True)
class RelayProcess:
    """A relay process's command-line options."""

    identity: str
    health_host: str
    health_port: int  # 0: any free port
    ready_file: Path | None = None  # written when ready for messages
    options: RelayOptions = field(
        default_factory=RelayOptions
    )  # the ladder comes from the settings


def relay(process: RelayProcess, settings: Settings) -> None:
    """Relays until a signal asks it to stop; returns after an orderly shutdown.

    Raises:
        WorkerExit: something it needs is missing or wrong.
        ProcessProblem: the health port is in use, or the relay has failed.
    """
    refuse_owner_credentials(settings)
    forward_core_logs(measures=True)
    metrics, scrape = measuring(settings)

    async def make(stack: AsyncExitStack) -> Consumers:
        with refusing():
            url = _relay_url(settings)
            require_url("RELAY_LISTEN_DATABASE_URL", settings.relay_listen_database_url)
            tenants = await _database(url, stack)
            client = await connect_client(tenants, features=[metrics])
            await require_search_attributes(client)
            made = _relay(url, client, process, settings)
            return Consumers(
                consumers=[RelayConsumer(made)],
                probes=probes(client, [url]),
                beside=collecting(
                    client,
                    tenants,
                    ControlPlaneDirectory(tenants),
                    queues=list(Queue),
                    schedules=SCHEDULES,
                    migrations=[TENANT_DATA],
                    options=CollectOptions(
                        every=timedelta(seconds=settings.metrics_collect_seconds)
                    ),
                    relay=made,
                ),
                announced=announced(
                    tenants, this_process("relay", process.identity, QUEUE, settings)
                ),
            )

    asyncio.run(
        run_process(
            Process(
                queues=[QUEUE],
                identity=process.identity,
                health_host=process.health_host,
                health_port=process.health_port,
                version=version_of(settings),
                scrape=scrape,
                ready_file=process.ready_file,
                drain_delay=timedelta(seconds=settings.drain_delay_seconds),
                what="the relay",
                kind="relay",
            ),
            make,
        )
    )


def _relay_url(settings: Settings) -> str:
    url = plain(settings.relay_database_url)
    if url is None:
        raise SettingMissing(f"RELAY_DATABASE_URL is not set. {HOW_TO_START}")
    return url


async def _database(url: str, stack: AsyncExitStack) -> Database:
    """Returns the engines for what a relay reads besides messages; checks the database."""
    await asyncio.to_thread(check_one_database, url)
    tenants = Database(
        platform_url=url,
        platform_pool_size=DIRECTORY_CONNECTIONS,
        application_name="temporal-tenancy relay (directory)",
    )
    stack.push_async_callback(tenants.dispose)
    return tenants


def _relay(url: str, client: Client, process: RelayProcess, settings: Settings) -> Relay:
    ladder = RetryLadder(attempts=settings.relay_attempts, unit=settings.relay_backoff)
    return Relay(
        client,
        url,
        options=replace(
            process.options,
            ladder=ladder,
            store_connections=settings.relay_store_connections,
            store_poll=settings.relay_store_poll,
        ),
        alerts=configured_sinks(settings),
        listen_url=plain(settings.relay_listen_database_url),
        stores=connections(settings),
    )

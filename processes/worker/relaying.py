"""Runs a relay process: checks, relays, reports its health, and stops in order."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog
from temporalio.client import Client

from processes.connect import HOW_TO_START, connect_client, plain
from processes.lifecycle.collector import spare_what_is_loaded
from processes.lifecycle.exits import WorkerExit
from processes.lifecycle.health import Health, serving
from processes.lifecycle.preflight import (
    check_one_database,
    refuse_owner_credentials,
    refusing,
)
from processes.lifecycle.probes import probes
from processes.lifecycle.ready_file import write_ready_file
from processes.lifecycle.stop_request import StopRequest, StopRequested
from saas.services.alert_sinks import configured_sinks
from saas.settings import Settings
from temporal_tenancy import Database
from temporal_tenancy.cli import ExitCode, NotReachable
from temporal_tenancy.outbox import Relay, RelayOptions, RetryLadder
from temporal_tenancy.sdk import require_search_attributes
from temporal_tenancy.sdk.core_logs import forward_core_logs

QUEUE: Final = "outbox"  # shown where a worker shows its task queue
DIRECTORY_CONNECTIONS: Final = 2  # its answers are cached, and what is asked at once is one query

log: Final = structlog.get_logger(__name__)


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
    """
    refuse_owner_credentials(settings)
    forward_core_logs()
    asyncio.run(_relay(process, settings))


async def _relay(process: RelayProcess, settings: Settings) -> None:
    health = Health()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(StopRequest().listening())
        address = await stack.enter_async_context(
            serving(health, host=process.health_host, port=process.health_port)
        )
        log.info("worker.starting", queues=[QUEUE], health=address)
        try:
            with refusing():
                url = _relay_url(settings)
                made, client = await stop.unless_requested(_make(url, process, settings, stack))
        except StopRequested:
            log.info("worker.stopped", signal=stop.signal)
            return
        health.workers = [made]
        health.probes = probes(client, [url])
        working = asyncio.create_task(made.run())
        try:
            await stop.until_ended(working, asyncio.create_task(made.until_running()))
            spare_what_is_loaded()
            log.info("worker.started", queues=[QUEUE], health=address)
            if process.ready_file is not None:
                write_ready_file(
                    process.ready_file, identity=process.identity, queues=[QUEUE], health=address
                )
            await stop.until_ended(working)
        except StopRequested:
            pass
        began = time.monotonic()
        health.stopping = True
        log.info("worker.stopping", signal=stop.signal)
        made.stop()
        try:
            await working
        except Exception as error:
            sentence = f"WorkerFailed: the relay could not go on: {error}."
            raise WorkerExit(ExitCode.FAILED, sentence) from error
        log.info("worker.stopped", signal=stop.signal, seconds=round(time.monotonic() - began, 2))


def _relay_url(settings: Settings) -> str:
    url = plain(settings.relay_database_url)
    if url is None:
        raise NotReachable(f"RELAY_DATABASE_URL is not set. {HOW_TO_START}")
    return url


async def _make(
    url: str, process: RelayProcess, settings: Settings, stack: AsyncExitStack
) -> tuple[Relay, Client]:
    await asyncio.to_thread(check_one_database, url)
    tenants = Database(
        platform_url=url,
        platform_pool_size=DIRECTORY_CONNECTIONS,
        application_name="temporal-tenancy relay (directory)",
    )
    stack.push_async_callback(tenants.dispose)
    client = await connect_client(tenants)
    await require_search_attributes(client)
    ladder = RetryLadder(attempts=settings.relay_attempts, unit=settings.relay_backoff)
    return Relay(
        client,
        url,
        options=replace(process.options, ladder=ladder),
        alerts=configured_sinks(settings),
    ), client

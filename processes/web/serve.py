"""Runs the HTTP door's process: checks, serves, and stops in order."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from processes.connect import database, shared_state_of
from processes.lifecycle.configuration import this_process
from processes.lifecycle.exits import WorkerExit
from processes.lifecycle.measuring import measuring
from processes.lifecycle.preflight import check_databases, refusing, runtime_urls
from processes.web.app import create_app
from processes.web.connections import BACKLOG
from processes.web.door import Door, make_door
from processes.web.limits import Limits
from processes.web.server import DoorServer
from saas.settings import Settings
from temporal_tenancy.cli import ExitCode
from temporal_tenancy.control_plane import announced
from temporal_tenancy.core import number
from temporal_tenancy.lifecycle import (
    Health,
    StopRequest,
    StopRequested,
    listen,
    serving,
    write_ready_file,
)
from temporal_tenancy.metering import metered
from temporal_tenancy.postgres import answers
from temporal_tenancy.sdk import forward_core_logs

OTHER_FILES: Final = 256  # for databases, Temporal and files being written

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Listening:
    """The process's command-line options."""

    host: str
    port: int  # 0: any free port
    ready_file: Path | None = None  # written when ready to serve


def serve(listening: Listening, settings: Settings) -> None:
    """Serves until a signal asks it to stop; returns after an orderly shutdown.

    Raises:
        WorkerExit: something it needs is missing or wrong.
        PortInUse: the port cannot be opened.
        ConfigurationError: a setting is invalid.
    """
    _refuse_credentials(settings)
    Limits.of(settings)  # before the database is asked: it refuses what contradicts itself
    _make_room_for_connections(settings.web_connections)
    forward_core_logs(measures=settings.web_health_port is not None)
    asyncio.run(_serve(listening, settings))


def _refuse_credentials(settings: Settings) -> None:
    """Raises `WorkerExit` for credentials that a door open to everybody must not have."""
    excess = [
        name.upper()
        for name in ("database_url", "relay_database_url", "relay_listen_database_url")
        if getattr(settings, name) is not None
    ]
    if excess:
        without = " ".join(f"-u {name}" for name in excess)
        raise WorkerExit(
            ExitCode.REFUSED,
            f"ExcessRights: {' and '.join(excess)} {'is' if len(excess) == 1 else 'are'} set, but "
            "the HTTP door must not have the credentials of the database's owner or of the relay. "
            f'Start it without them: "env {without} python -m processes.web".',
        )


def _make_room_for_connections(connections: int) -> None:
    """Raises the limit of open files; raises `WorkerExit` if the system does not allow it.

    Whenever file descriptors run out, asyncio stops accepting connections for a second.
    """
    needed = connections + BACKLOG + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise WorkerExit(
            ExitCode.REFUSED,
            f"ConfigurationError: WEB_CONNECTIONS is {connections}, which needs "
            f"{number(needed, 'open file')}, but this process may have {hard:,}. Lower it, or "
            "raise the limit (ulimit -n).",
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _serve(listening: Listening, settings: Settings) -> None:
    opened = listen(listening.host, listening.port, otherwise="with --port")
    with StopRequest().listening() as stop, opened as socket_:
        try:
            with refusing():
                await stop.unless_requested(check_databases(settings))
                state = shared_state_of(settings)
                engines = database(settings, application_name="temporal-tenancy web")
                urls = runtime_urls(settings)
        except StopRequested:
            return
        try:
            door = make_door(settings, engines, state=state)
            server = DoorServer(create_app(door, urls), door.admission)
            health = _health(server, urls)
            delay = timedelta(seconds=settings.drain_delay_seconds)
            me = this_process("web", f"{os.getpid()}@{socket.gethostname()}", "web", settings)
            async with (
                _health_port(health, settings) as address,
                announced(engines, me),
                metered(engines),
            ):
                await _answer(
                    server, door, socket_, stop, listening, health, address, delay, me.version
                )
        finally:
            await state.close()
            await engines.dispose()


def _health(server: DoorServer, urls: Sequence[str]) -> Health:
    health = Health()
    health.workers = [server]
    health.probes = {
        f"the database does not answer the {role}'s role": partial(asyncio.to_thread, answers, url)
        for role, url in zip(("tenant", "platform"), urls, strict=True)
    }
    return health


@asynccontextmanager
async def _health_port(health: Health, settings: Settings) -> AsyncIterator[str | None]:
    """Serves health and metrics on a port of their own; yields its URL, or None without one.

    Raises:
        PortInUse: the port cannot be opened.
    """
    if settings.web_health_port is None:
        yield None
        return
    _, scrape = measuring(settings)
    async with serving(
        health,
        host=settings.worker_health_host,
        port=settings.web_health_port,
        scrape=scrape,
        otherwise="with WEB_HEALTH_PORT",
    ) as address:
        yield address


async def _answer(
    server: DoorServer,
    door: Door,
    listener: socket.socket,
    stop: StopRequest,
    listening: Listening,
    health: Health,
    health_address: str | None,
    drain_delay: timedelta,
    version: str,
) -> None:
    address = f"http://{listening.host}:{listener.getsockname()[1]}"
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await stop.until_ended(answering, asyncio.create_task(server.answering.wait()))
        log.info("web.started", url=address, health=health_address, version=version)
        if listening.ready_file is not None:
            write_ready_file(listening.ready_file, url=address, health=health_address or address)
        await stop.requested.wait()
    except StopRequested:
        pass
    log.info("web.stopping", signal=stop.signal)
    health.stopping = True
    door.unready.set()
    await stop.linger(drain_delay, answering)
    door.stopping.set()
    server.should_exit = True
    await answering
    log.info("web.stopped", signal=stop.signal)

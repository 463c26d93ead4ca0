"""The life of the HTTP door's process: checks, answers, and ends in order."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from connect import database
from settings import Settings
from web.app import create_app
from web.door import Door, make_door
from web.server import DoorServer
from worker_process.core_logs import forward_core_logs
from worker_process.exits import ExitCode, WorkerExit
from worker_process.listening import listen
from worker_process.preflight import check_databases, refusing, runtime_urls
from worker_process.ready_file import write_ready_file
from worker_process.stop_request import StopRequest, StopRequested

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Listening:
    """What the command line says of the process."""

    host: str
    port: int  # 0: any free one
    ready_file: Path | None = None  # written when it answers


def serve(listening: Listening, settings: Settings) -> None:
    """Answers until a signal asks for an end; returns when all is in order.

    Raises:
        WorkerExit: something needed is missing or wrong.
        ConfigurationError: a setting is not right.
    """
    if settings.database_url is not None:
        raise WorkerExit(
            ExitCode.FAILED,
            "ExcessRights: DATABASE_URL is set, and the HTTP door has no use for the owner's "
            'credentials. Unset it: "env -u DATABASE_URL python -m web".',
        )
    forward_core_logs()
    asyncio.run(_serve(listening, settings))


async def _serve(listening: Listening, settings: Settings) -> None:
    opened = listen(listening.host, listening.port, otherwise="with --port")
    with StopRequest().listening() as stop, opened as socket_:
        try:
            with refusing():
                await stop.unless_requested(check_databases(settings))
                engines = database(settings, application_name="temporal-tenancy web")
                urls = runtime_urls(settings)
        except StopRequested:
            return
        try:
            door = make_door(settings, engines)
            server = DoorServer(create_app(door, urls), door.admission)
            await _answer(server, door, socket_, stop, listening)
        finally:
            await engines.dispose()


async def _answer(
    server: DoorServer, door: Door, listener: socket.socket, stop: StopRequest, listening: Listening
) -> None:
    address = f"http://{listening.host}:{listener.getsockname()[1]}"
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await stop.unless_requested(_until_answering(server, answering))
        log.info("web.started", url=address)
        if listening.ready_file is not None:
            write_ready_file(listening.ready_file, url=address, health=address)
        await stop.requested.wait()
    except StopRequested:
        pass
    log.info("web.stopping", signal=stop.signal)
    door.stopping.set()
    server.should_exit = True
    await answering
    log.info("web.stopped", signal=stop.signal)


async def _until_answering(server: DoorServer, answering: asyncio.Task[None]) -> None:
    started = asyncio.create_task(server.answering.wait())
    await asyncio.wait((started, answering), return_when=asyncio.FIRST_COMPLETED)
    started.cancel()

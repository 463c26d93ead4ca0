"""The life of the HTTP door's process: checks, answers, and ends in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from connect import database
from settings import Settings
from web.app import create_app
from web.door import Door, make_door
from worker_process.core_logs import forward_core_logs
from worker_process.exits import ExitCode, WorkerExit
from worker_process.listening import listen
from worker_process.preflight import check_databases, refusing, runtime_urls
from worker_process.ready_file import write_ready_file
from worker_process.stop_request import StopRequest, StopRequested

GRACE_SECONDS: Final = 15  # for what is being answered at the end
CONNECTIONS_MAX: Final = 1_000  # open at once; more are answered with 503

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
            server = _Server(_config(door, urls))
            await _answer(server, door, socket_, stop, listening)
        finally:
            await engines.dispose()


async def _answer(
    server: _Server, door: Door, listener: socket.socket, stop: StopRequest, listening: Listening
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


async def _until_answering(server: _Server, answering: asyncio.Task[None]) -> None:
    started = asyncio.create_task(server.answering.wait())
    await asyncio.wait((started, answering), return_when=asyncio.FIRST_COMPLETED)
    started.cancel()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # They end streams too, which uvicorn would wait for.
        yield


def _config(door: Door, urls: list[str]) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(door, urls),
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

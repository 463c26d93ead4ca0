"""The door's server: uvicorn with the door's connections, stopped by `serve` and not by signals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from processes.web.admission import Admission
from processes.web.connections import Connections, DoorConfig

GRACE_SECONDS: Final = 15  # for requests in progress at shutdown


class DoorServer(uvicorn.Server):
    """Serves until `should_exit` is set."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.connections = Connections(admission.limits, admission.addresses)
        super().__init__(DoorConfig(app, self.connections, grace_seconds=GRACE_SECONDS))
        self.answering = asyncio.Event()
        self.task_queue: Final = "web"  # its name in the process's health report
        self.is_shutdown = False

    @property
    def is_running(self) -> bool:
        """Whether it answers requests."""
        return self.answering.is_set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts serving."""
        await super().startup(sockets)
        self.answering.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none: `serve` handles them, and also ends streams, which uvicorn waits for."""
        yield

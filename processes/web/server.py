"""The door's server: uvicorn with our connections, ended by us and not by signals."""

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

GRACE_SECONDS: Final = 15  # for what is being answered at the end


class DoorServer(uvicorn.Server):
    """Answers until `should_exit` is set."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.connections = Connections(admission.limits, admission.addresses)
        super().__init__(DoorConfig(app, self.connections, grace_seconds=GRACE_SECONDS))
        self.answering = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets)
        self.answering.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes none: they end streams too, which uvicorn would wait for."""
        yield

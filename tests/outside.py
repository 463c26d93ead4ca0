"""Somebody else's HTTP server, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are the test run's


@asynccontextmanager
async def serving(
    app: Any,  # an ASGI application
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    **options: Any,  # of uvicorn.Config
) -> AsyncIterator[int]:
    """Serves `app`, and yields the port, at which connections are taken already."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        server = _Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None, **options))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running

"""What every answer has: headers that keep browsers from doing harm, and a line in the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_BYTES: Final = 4 * 1024 * 1024
QUIET: Final = ("/healthz", "/readyz")  # asked for all the time

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""The strictest for what is no page; a route's own answer may say otherwise."""

log: Final = structlog.get_logger(__name__)


class Answers:
    """Middleware that adds `HEADERS`, and logs each answer: never its address, which may be a
    credential, but the route's.
    """

    def __init__(self, app: ASGIApp, *, drain_seconds: float) -> None:
        """`drain_seconds` are for the rest of a refused request's body."""
        self._app = app
        self._drain_seconds = drain_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500
        body = _Body(receive)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if status >= 400 and headers.get("connection") != "close":
                    await body.drain(self._drain_seconds)
            await send(message)

        try:
            # In a context of its own: the server begins a request that came early in that of the
            # one before it on the connection, whose tenant it would have.
            answering = self._app(scope, body.receive, send_with_headers)
            await asyncio.create_task(_awaited(answering), context=Context())
        finally:
            route = getattr(scope.get("route"), "path", None)
            if route not in QUIET:
                log.info(
                    "web.answered",
                    method=scope["method"],
                    route=route,
                    status=status,
                    seconds=round(time.monotonic() - began, 3),
                    tenant_id=scope.get("state", {}).get("tenant_id"),
                )


async def _awaited(answering: Awaitable[None]) -> None:
    await answering


class _Body:
    """A request's body, of which the rest is read before an answer that did not wait for it.

    The connection is closed behind such an answer, and a sender with bytes under way would see that
    and never the answer.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def receive(self) -> Message:
        """The next message, as the server has it."""
        message = await self._receive()
        self._ended = self._ended or not message.get("more_body", False)
        return message

    async def drain(self, seconds: float) -> None:
        """Reads what is left, of some megabytes and for so many seconds at most."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended and size < DRAIN_BYTES:
                    size += len((await self.receive()).get("body", b""))

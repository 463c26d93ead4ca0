"""Adds security headers to every response, and logs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from temporal_tenancy.core import span

DRAIN_BYTES: Final = 4 * 1024 * 1024
QUIET: Final = ("/healthz", "/readyz")  # requested all the time, so not logged

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
"""The strictest values for responses that are not pages; a route may set others."""

log: Final = structlog.get_logger(__name__)


class Answers:
    """Middleware that adds `HEADERS` to each response and logs it.

    It logs the route and never the URL, which may be a credential.
    """

    def __init__(self, app: ASGIApp, *, drain_seconds: float) -> None:
        """`drain_seconds` limits how long the rest of a rejected request's body is read."""
        self._app = app
        self._drain_seconds = drain_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
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
            # In a fresh context: the server starts a pipelined request in the context of the one
            # before it on the connection, and so with its tenant.
            answering = self._app(scope, body.receive, send_with_headers)
            tracing = _traced(answering, scope, lambda: status)
            await asyncio.create_task(tracing, context=Context())
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


async def _traced(answering: Awaitable[None], scope: Scope, status: Callable[[], int]) -> None:
    """Answers in a trace of its own: what a caller says of its own trace is not believed."""
    with span("request", "server", parents=()) as request:
        try:
            await answering
        finally:
            route = getattr(scope.get("route"), "path", None)
            answered = status()
            request.describe(
                f"{scope['method']} {route}" if route else "request",
                **{"http.request.method": scope["method"], "http.response.status_code": answered},
            )
            if route:
                request.describe(**{"http.route": route})
            if tenant := scope.get("state", {}).get("tenant_id"):
                request.describe(**{"tenancy.tenant_id": tenant})
            if answered >= 500:
                request.fail(str(answered))


class _Body:
    """A request's body, whose rest is read before an early error response.

    Such a response closes the connection. A client that is still sending would see only that, and
    never the response.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def receive(self) -> Message:
        """Returns the server's next message."""
        message = await self._receive()
        self._ended = self._ended or not message.get("more_body", False)
        return message

    async def drain(self, seconds: float) -> None:
        """Reads the rest of the body, up to some megabytes and for at most `seconds`."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended and size < DRAIN_BYTES:
                    size += len((await self.receive()).get("body", b""))

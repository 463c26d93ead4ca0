"""What every answer has: headers that keep browsers from doing harm, and a line in the log."""

from __future__ import annotations

import time
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
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

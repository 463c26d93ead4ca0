"""Answers HEAD like GET, with the same status and headers, and without the body."""

from __future__ import annotations

from anyio import CancelScope
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Heads:
    """Middleware that passes HEAD on as GET, and ends it once its headers are sent.

    A file is not read for it, and a stream of events not followed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        with CancelScope() as answering:

            async def send_head(message: Message) -> None:
                if answering.cancel_called:
                    return
                if message["type"] != "http.response.body":
                    await send(message)
                    return
                await send({"type": "http.response.body"})
                if message.get("more_body", False):
                    answering.cancel()

            try:
                await self._app(as_get, receive, send_head)
            finally:
                scope["route"] = as_get.get("route")  # which the log and the trace name

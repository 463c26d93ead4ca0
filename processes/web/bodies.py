"""Reading the bodies of requests: piece by piece, no more than is taken, and not for ever."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from processes.web.door import door_of
from processes.web.refusals import BodyTimeout, BodyTooLarge, InvalidRequest, MediaTypeRefused
from temporal_tenancy.core.inputs import read_input

JSON_MAX_BYTES: Final = 256 * 1024

Model = TypeVar("Model", bound=BaseModel)


class Pace:
    """How long the next piece of a body is waited for: our own work does not count."""

    def __init__(self, rate: int, window: float, seconds: float) -> None:
        """
        Args:
            rate: bytes a second that have to come, at least.
            window: seconds that it may stand still, or be late by.
            seconds: in all.
        """
        self._rate = rate
        self._window = self._credit = window
        self._left = seconds

    @property
    def patience(self) -> float:
        """Seconds for the next piece."""
        return max(0.0, min(self._credit, self._left))

    def came(self, size: int, waited: float) -> None:
        """Counts a piece of `size` bytes that came after `waited` seconds."""
        self._left -= waited
        self._credit = min(self._window, self._credit - waited + size / self._rate)


def refuse_announced(request: Request, max_bytes: int) -> None:
    """Refuses a body by what the request says of it itself.

    Raises:
        BodyTooLarge: it is going to be.
        MediaTypeRefused: it is compressed, and would be taken for what it is not.
    """
    codings = ",".join(request.headers.getlist("content-encoding"))
    if codings.strip().lower() not in ("", "identity"):
        raise MediaTypeRefused('a body is taken as it is. Send it without "Content-Encoding".')
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)


async def pieces_of(
    request: Request, max_bytes: int, seconds: float | None = None
) -> AsyncGenerator[bytes]:
    """Yields the request's body as it comes, of `max_bytes` at most.

    It may take `seconds` (what the door's limits say if not given), and has to keep their rate.

    Raises:
        BodyTooLarge, MediaTypeRefused: as `refuse_announced`, or it is larger.
        BodyTimeout: it came too slowly.
        starlette.requests.ClientDisconnect: the caller has gone.
    """
    refuse_announced(request, max_bytes)
    limits = door_of(request).admission.limits
    pace = Pace(
        limits.body_rate,
        limits.body_window_seconds,
        limits.body_seconds if seconds is None else seconds,
    )
    size = 0
    pieces = request.stream()
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(pace.patience):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyTimeout from None
        pace.came(len(piece), time.monotonic() - began)
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if piece:
            yield piece


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request's body is larger than {max_bytes:,} bytes.")


async def read_body(
    request: Request, max_bytes: int = JSON_MAX_BYTES, seconds: float | None = None
) -> bytes:
    """The whole body, byte for byte; raises as `pieces_of`."""
    return b"".join([piece async for piece in pieces_of(request, max_bytes, seconds)])


async def read_json(request: Request, model: type[Model]) -> Model:
    """The body as `model`, strictly.

    Raises:
        MediaTypeRefused: it does not say that it is JSON.
        InvalidRequest: it is not UTF-8, or has a field twice, of which one would be passed over.
        InvalidPayload: it does not fit; nothing of it is repeated.
        BodyTooLarge, BodyTimeout: as `pieces_of`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MediaTypeRefused('this takes JSON. Send "Content-Type: application/json".')
    body = await read_body(request)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the request's body is not UTF-8.") from None
    found = read_input(model, text, what="the request")  # of JSON, and no deeper than can be read
    json.loads(text, object_pairs_hook=_only_once)
    return found


def _only_once(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) > len({name for name, _ in pairs}):
        raise InvalidRequest("a field is in the request's body twice. Give it once.")

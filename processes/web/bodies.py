"""Reads request bodies in chunks, up to a size limit and a deadline."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from processes.web.door import door_of
from processes.web.refusals import BodyTimeout, BodyTooLarge, InvalidRequest, MediaTypeRefused
from temporal_tenancy import read_input

JSON_MAX_BYTES: Final = 256 * 1024

Model = TypeVar("Model", bound=BaseModel)


class Pace:
    """How long to wait for the next chunk of a body, not counting our own work."""

    def __init__(self, rate: int, window: float, seconds: float) -> None:
        """
        Args:
            rate: the minimum rate, in bytes per second.
            window: seconds that the body may stall or lag behind that rate.
            seconds: for the whole body.
        """
        self._rate = rate
        self._window = self._credit = window
        self._left = seconds

    @property
    def patience(self) -> float:
        """Seconds to wait for the next chunk."""
        return max(0.0, min(self._credit, self._left))

    def came(self, size: int, waited: float) -> None:
        """Counts a chunk of `size` bytes that arrived after `waited` seconds."""
        self._left -= waited
        self._credit = min(self._window, self._credit - waited + size / self._rate)


def refuse_announced(request: Request, max_bytes: int) -> None:
    """Rejects a body by the request's headers, before reading it.

    Raises:
        BodyTooLarge: its announced size is over `max_bytes`.
        MediaTypeRefused: it is compressed, which is not supported.
    """
    codings = ",".join(request.headers.getlist("content-encoding"))
    if codings.strip().lower() not in ("", "identity"):
        raise MediaTypeRefused(
            'compressed bodies are not supported. Send the body without "Content-Encoding".'
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)


async def pieces_of(
    request: Request, max_bytes: int, seconds: float | None = None
) -> AsyncGenerator[bytes]:
    """Yields the request's body in chunks, up to `max_bytes` in all.

    The body may take `seconds` (default: the door's limit), and must keep the door's minimum rate.

    Raises:
        BodyTooLarge, MediaTypeRefused: as for `refuse_announced`, or the body is too large.
        BodyTimeout: the body arrives too slowly.
        starlette.requests.ClientDisconnect: the caller has disconnected.
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
    """Returns the whole body, byte for byte; raises the errors of `pieces_of`."""
    return b"".join([piece async for piece in pieces_of(request, max_bytes, seconds)])


async def read_json(request: Request, model: type[Model]) -> Model:
    """Returns the body as `model`, parsed strictly.

    Raises:
        MediaTypeRefused: its content type is not JSON.
        InvalidRequest: it is not UTF-8, or contains a field twice.
        InvalidPayload: it does not fit `model`; the message repeats none of its values.
        BodyTooLarge, BodyTimeout: as for `pieces_of`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MediaTypeRefused('the body must be JSON. Send "Content-Type: application/json".')
    body = await read_body(request)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the request's body is not UTF-8.") from None
    # First, as it also rejects text that is not JSON, or nested too deeply for `json.loads`.
    found = read_input(model, text, what="the request")
    json.loads(text, object_pairs_hook=_only_once)
    return found


def as_sent(model: BaseModel) -> dict[str, Any]:
    """Returns the fields that the sender of a body gave, as JSON."""
    return model.model_dump(mode="json", exclude_unset=True)


def _only_once(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) > len({name for name, _ in pairs}):
        raise InvalidRequest("the request's body has a field twice. Send it once.")

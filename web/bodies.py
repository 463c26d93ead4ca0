"""Reading the bodies of requests: piece by piece, no more than is taken, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from temporal_tenancy.inputs import read_input
from web.refusals import BodyTimeout, BodyTooLarge, InvalidRequest, MediaTypeRefused

JSON_MAX_BYTES: Final = 256 * 1024
IDLE_SECONDS: Final = 60.0  # between two pieces of a body

Model = TypeVar("Model", bound=BaseModel)


async def pieces_of(request: Request, max_bytes: int) -> AsyncGenerator[bytes]:
    """Yields the request's body as it comes, of `max_bytes` at most.

    Raises:
        BodyTooLarge: it is larger, or is going to be by what it says itself.
        BodyTimeout: nothing came for a minute.
        starlette.requests.ClientDisconnect: the caller has gone.
    """
    too_large = BodyTooLarge(f"the request's body is larger than {max_bytes:,} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    size = 0
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyTimeout from None
        size += len(piece)
        if size > max_bytes:
            raise too_large
        if piece:
            yield piece


async def read_body(request: Request, max_bytes: int = JSON_MAX_BYTES) -> bytes:
    """The whole body, byte for byte; raises as `pieces_of`."""
    return b"".join([piece async for piece in pieces_of(request, max_bytes)])


async def read_json(request: Request, model: type[Model]) -> Model:
    """The body as `model`, strictly.

    Raises:
        MediaTypeRefused: it does not say that it is JSON.
        InvalidRequest: it is not UTF-8.
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
    return read_input(model, text, what="the request")

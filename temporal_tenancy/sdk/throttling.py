"""Requests that are sent again while the Temporal server says that it gets too many."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from temporalio.service import RPCError, RPCStatusCode

WITHIN: Final = 20.0  # seconds until the last request
FIRST: Final = 0.25  # seconds before the second request; each further wait is twice as long
_LONGEST: Final = 4.0  # seconds between two requests

T = TypeVar("T")


async def unthrottled(send: Callable[[], Awaitable[T]], *, within: float = WITHIN) -> T:
    """Returns the answer to a request, which is sent again while the server is asked too often.

    The SDK does so for its own calls, but not for those of `client.workflow_service`.

    Args:
        send: sends the request, and can be repeated.
        within: seconds until the last request.

    Raises:
        RPCError: the server refuses, or was asked too often all the time.
    """
    end = time.monotonic() + within
    wait = FIRST
    while True:
        try:
            return await send()
        except RPCError as error:
            # Who else was refused must not come back at the same moment.
            delay = wait * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
            if not is_throttled(error) or time.monotonic() + delay > end:
                raise
        await asyncio.sleep(delay)
        wait = min(wait * 2, _LONGEST)


def is_throttled(error: RPCError) -> bool:
    """Whether the server refuses because it is asked too often; a large message is no such case."""
    return error.status is RPCStatusCode.RESOURCE_EXHAUSTED and not error.message.startswith(
        "grpc:"
    )

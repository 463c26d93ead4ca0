"""Ends asyncio tasks that may not hear that they are cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable
from typing import Any, Final

CANCEL_AGAIN: Final = 1.0  # seconds; longer than most code takes to end once it is cancelled


async def end_tasks(
    *tasks: asyncio.Task[Any], within: float = math.inf
) -> Collection[asyncio.Task[Any]]:
    """Cancels tasks until they have ended; returns those that have not after `within` seconds.

    One cancellation is not enough for a task that repeats something: on Python 3.11
    `asyncio.wait_for()` loses a cancellation that arrives as what it waits for ends, and psycopg
    before 3.3.6 waits with it. An error of a task is dropped.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    left = {task for task in tasks if not task.done()}
    for task in left:
        task.cancel()
    while left and loop.time() < ends:
        _, left = await asyncio.wait(left, timeout=min(CANCEL_AGAIN, ends - loop.time()))
        _cancel_again(left)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # so that asyncio does not report it as never retrieved
    return left


def _cancel_again(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()

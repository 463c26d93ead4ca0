"""Explains a failed run, and tells whoever waits for a run what keeps it from ending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from temporal_tenancy.cli._pending import troubles
from temporal_tenancy.cli._workers import has_worker, no_worker
from temporal_tenancy.cli.answers import Problem, say
from temporal_tenancy.cli.program import message_with_hint
from temporal_tenancy.core.failures import root_cause, sentence_of, type_of

LOOK_INTERVAL: Final = timedelta(seconds=1)  # at first
MOST_BETWEEN_LOOKS: Final = 15.0  # seconds


def problem_of(error: WorkflowFailureError) -> Problem:
    """Returns why a run failed: the error of its activity or of its worker's guard."""
    cause = root_cause(error.cause)
    kind = type_of(cause)
    return Problem(kind, message_with_hint(kind, sentence_of(cause).removeprefix(f"{kind}: ")))


@asynccontextmanager
async def tells_troubles(
    client: Client, handle: WorkflowHandle[Any, Any], every: timedelta = LOOK_INTERVAL
) -> AsyncIterator[None]:
    """While the block waits for a run, says once what fails in it and is retried."""
    watching = asyncio.create_task(_watch(client, handle, every.total_seconds()))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(client: Client, handle: WorkflowHandle[Any, Any], every: float) -> None:
    told: set[str] = set()
    while True:
        await asyncio.sleep(every)
        with suppress(RPCError):  # the wait itself says so, if the server is lost
            described = await handle.describe()
            for sentence in await troubles(client, described):
                if sentence not in told:
                    told.add(sentence)
                    say(f"Waiting: {sentence}")
        every = min(every * 1.5, MOST_BETWEEN_LOOKS)


async def warn_without_worker(client: Client, queue: str) -> None:
    """Warns a person who waits for a run if no worker serves the queue."""
    if not await has_worker(client, queue):
        say(f"Waiting: {no_worker(queue)}")

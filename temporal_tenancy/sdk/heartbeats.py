"""Heartbeats of long activities, sent in the background of their event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import ConfigurationError

BEATS_A_TIMEOUT: Final = 3  # so two may be lost
_PLAUSIBLE: Final = timedelta(hours=1)  # that an attempt waits for its worker


class Heart:
    """Sends an activity's heartbeats, each with its latest progress."""

    def __init__(self, progress: tuple[Any, ...]) -> None:
        """`progress` goes with each heartbeat until `beat()` gets a newer one."""
        self.progress = progress

    def beat(self, *progress: Any) -> None:
        """Sends a heartbeat now, with `progress` if there is any; later heartbeats repeat it.

        The next attempt finds it in `activity.info().heartbeat_details`. The server keeps it in
        the history like any payload, so it should be a position, not data.
        """
        if progress:
            self.progress = progress
        activity.heartbeat(*self.progress)


@asynccontextmanager
async def heartbeating(*progress: Any) -> AsyncIterator[Heart]:
    """Sends heartbeats inside the block, three per heartbeat timeout.

    The first one is due a third of the timeout after the server has handed out the attempt, and at
    once if a busy worker begins it later than that. One that is begun after its timeout is thus
    cancelled before it does what another attempt does.
    The SDK throttles them, so that the server gets one per 80 % of the timeout. The server thus
    notices a worker's death within the timeout, and a cancellation reaches the activity within it,
    as `asyncio.CancelledError`. It works in async activities only, and code that blocks the event
    loop sends none. As a decorator, `@heartbeating()` under `@tenant_activity`, it covers the
    whole activity.

    Args:
        progress: the details of the first heartbeats; by default those of the previous attempt, so
            that they are not lost if this attempt fails early.

    Yields:
        A `Heart`, whose `beat()` reports new progress.

    Raises:
        ApplicationError: the call has no heartbeat timeout; type `ConfigurationError`,
            non-retryable.
    """
    info = activity.info()
    if not info.heartbeat_timeout:
        raise ApplicationError(
            f"{info.activity_type} sends heartbeats, but {info.workflow_type} calls it without a "
            "heartbeat timeout. Add heartbeat_timeout=timedelta(...) to the call.",
            type=ConfigurationError.__name__,
            non_retryable=True,
        )
    heart = Heart(progress or tuple(info.heartbeat_details))
    interval = info.heartbeat_timeout.total_seconds() / BEATS_A_TIMEOUT
    # A worker with much to do begins late, and the timeout runs from when the server handed it out.
    beating = asyncio.create_task(_beat(heart, max(0.0, interval - _age(info)), interval))
    try:
        yield heart
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


def _age(info: activity.Info) -> float:
    """Returns the seconds since the server handed out the attempt; 0 if that makes no sense."""
    age = datetime.now(UTC) - info.started_time
    return age.total_seconds() if timedelta(0) < age < _PLAUSIBLE else 0.0


async def _beat(heart: Heart, first: float, interval: float) -> None:
    # No heartbeat at once: most activities end before the first is due.
    await asyncio.sleep(first)
    while True:
        heart.beat()
        await asyncio.sleep(interval)

"""Heartbeats of a long activity, sent for it while its event loop turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import ConfigurationError

BEATS_A_TIMEOUT: Final = 3  # two may be lost


class Heart:
    """Sends an activity's heartbeats, always with the progress it has made."""

    def __init__(self, progress: tuple[Any, ...]) -> None:
        """`progress` is what the heartbeats say until there is more."""
        self.progress = progress

    def beat(self, *progress: Any) -> None:
        """Sends a heartbeat now; `progress` goes along with it, and with all that follow.

        The next attempt finds it in `activity.info().heartbeat_details`. It is kept in the history
        as every payload is: a position, not data.
        """
        if progress:
            self.progress = progress
        activity.heartbeat(*self.progress)


@asynccontextmanager
async def heartbeating(*progress: Any) -> AsyncIterator[Heart]:
    """Sends heartbeats inside the block, three in each heartbeat timeout.

    The SDK holds some of them back, so that the server gets one in 80 % of the timeout. So a
    worker's death is noticed within the timeout, and a cancellation reaches the activity within it
    too, as `asyncio.CancelledError`. `@heartbeating()` on an activity, under
    `@tenant_activity`, does it for the whole of it. For async activities: code that blocks the
    event loop sends none.

    Args:
        progress: what the heartbeats say at first; the progress of the attempt before, if there
            was one, so that it is not lost when this one fails early.

    Raises:
        ApplicationError: the activity was given no heartbeat timeout; non-retryable.
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
    beating = asyncio.create_task(_beat(heart, interval))
    try:
        yield heart
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _beat(heart: Heart, interval: float) -> None:
    while True:
        # None at once: most activities are done before the first is due.
        await asyncio.sleep(interval)
        heart.beat()

"""Activities of the dead-letter sweep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.dead_letters._telling import tell_of_dead_letters
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.sdk.heartbeats import heartbeating

BUDGET: Final = 240.0  # seconds; how long one sweep searches

log: Final = logging.getLogger(__name__)


@platform_activity("finds failed runs that recorded no dead letter, over all tenants")
@heartbeating()
async def find_dead_letters() -> int:
    """Records a letter for each run that failed permanently without one; returns the count."""
    until = asyncio.get_running_loop().time() + BUDGET
    found = await Sweep(activity.client()).find(datetime.now(UTC), until=until)
    if found:
        log.error("dead_letters.found", extra={"letters": found})
    return found


@platform_activity("resolves dead letters whose jobs have succeeded, over all tenants")
@heartbeating()
async def resolve_dead_letters() -> int:
    """Resolves the letters whose jobs have succeeded since; returns the count."""
    return await Sweep(activity.client()).resolve()


@platform_activity("deletes dead letters that were settled long ago, over all tenants")
@heartbeating()
async def forget_dead_letters() -> int:
    """Deletes settled letters that are older than `SETTLED_KEPT`; returns the count."""
    return await Sweep(activity.client()).forget(datetime.now(UTC))


class Alarm:
    """Alerts about dead letters."""

    def __init__(self, sinks: Sequence[AlertSink]) -> None:
        """`sinks` receive each alert, in addition to the log."""
        self._sinks = sinks

    @platform_activity("sends alerts about dead letters, over all tenants")
    @heartbeating()
    async def tell_of_dead_letters(self) -> int:
        """Sends the alerts that are due; returns how many were sent."""
        return await tell_of_dead_letters(self._sinks)

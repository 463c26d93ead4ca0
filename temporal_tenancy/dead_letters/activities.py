"""The effects of a sweep of the dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.dead_letters.telling import tell_of_dead_letters
from temporal_tenancy.sdk.heartbeats import heartbeating

BUDGET: Final = 240.0  # seconds that one sweep looks for letters

log: Final = logging.getLogger(__name__)


@platform_activity("finds what failed and could not say so, over all tenants")
@heartbeating()
async def find_dead_letters() -> int:
    """Writes a letter for each run that has failed for good without one; returns how many."""
    until = asyncio.get_running_loop().time() + BUDGET
    found = await Sweep(activity.client()).find(datetime.now(UTC), until=until)
    if found:
        log.error("dead_letters.found", extra={"letters": found})
    return found


@platform_activity("settles dead letters whose jobs have succeeded, over all tenants")
@heartbeating()
async def resolve_dead_letters() -> int:
    """Resolves the letters whose jobs have succeeded since; returns how many."""
    return await Sweep(activity.client()).resolve()


@platform_activity("forgets dead letters that were settled long ago, over all tenants")
@heartbeating()
async def forget_dead_letters() -> int:
    """Deletes letters that were settled longer ago than they are kept; returns how many."""
    return await Sweep(activity.client()).forget(datetime.now(UTC))


class Alarm:
    """Tells people of dead letters."""

    def __init__(self, sinks: Sequence[AlertSink]) -> None:
        """`sinks` are the ways to people, beside the log."""
        self._sinks = sinks

    @platform_activity("tells people of dead letters, over all tenants")
    @heartbeating()
    async def tell_of_dead_letters(self) -> int:
        """Returns how many alerts were sent."""
        return await tell_of_dead_letters(self._sinks)

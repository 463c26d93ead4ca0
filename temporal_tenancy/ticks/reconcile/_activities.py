"""Activities of reconciling."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import TickState
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.sdk.heartbeats import heartbeating
from temporal_tenancy.ticks.reconcile._due_ticks import TICKS_KEPT
from temporal_tenancy.ticks.reconcile._payloads import MissedTick, MissedTicks, Settled
from temporal_tenancy.ticks.reconcile.missed import note_missed_ticks
from temporal_tenancy.ticks.reconcile.settlement import Settlement

FIRST: Final = 10  # ticks listed in a result
PRUNED_AT_ONCE: Final = 5_000  # ledger rows in one transaction

log: Final = logging.getLogger(__name__)


@platform_activity("compares schedules with the ticks that began")
@heartbeating()
async def find_missed_ticks() -> MissedTicks:
    """Records the ticks that were due and never began, and logs each of them once."""
    missed = await note_missed_ticks(activity.client(), datetime.now(UTC))
    for due in missed:
        log.error(
            "tick.missed",
            extra={
                "job": due.job.name,
                "tick": due.tick,
                "nominal_time": due.nominal_time.isoformat(),
            },
        )
    first = [
        MissedTick(job=due.job.name, tick=due.tick, nominal_time=due.nominal_time)
        for due in missed[:FIRST]
    ]
    return MissedTicks(found=len(missed), first=first)


@platform_activity("settles ticks whose fan-out was lost")
@heartbeating()
async def settle_ticks() -> Settled:
    """Settles each tick that is recorded as running but whose fan-outs have all ended."""
    settlement = Settlement(activity.client())
    async with platform_session("read the ticks that run") as session:
        open_ticks = await ledger.ticks_in(session, TickState.RUNNING)
    settled = Settled(ticks=0, rows=0)
    for row in open_ticks:
        job = registry.get(row.job)
        if job is None or not await settlement.is_lost(row):
            continue
        rows = await settlement.settle(job, row.tick)
        settled.ticks += 1
        settled.rows += rows
        log.warning("tick.settled", extra={"job": row.job, "tick": row.tick, "rows": rows})
    return settled


class OldTicks:
    """Deletes old ticks in batches of ledger rows."""

    def __init__(self, at_once: int = PRUNED_AT_ONCE) -> None:
        """`at_once` is the number of ledger rows that one transaction deletes."""
        self._at_once = at_once

    @platform_activity("deletes old ticks")
    @heartbeating()
    async def prune_ticks(self) -> int:
        """Deletes ticks that began more than 90 days ago, with their rows; returns the count."""
        before = datetime.now(UTC) - TICKS_KEPT
        pruned = 0
        async with platform_session("read old ticks") as session:
            old = await ledger.ticks_before(session, before)
        for row in old:
            while True:  # a tick has a row for each tenant, too many for one transaction
                async with platform_session("prune a tick") as session:
                    deleted = await ledger.prune(session, row.job, row.tick, limit=self._at_once)
                if deleted < self._at_once:
                    break
            pruned += 1
        if pruned:
            log.info("ticks.pruned", extra={"ticks": pruned})
        return pruned

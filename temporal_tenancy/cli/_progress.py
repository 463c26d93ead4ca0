"""A progress bar for a tick, read from the ledger."""

from __future__ import annotations

import asyncio
from typing import Final

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from temporalio.client import WorkflowHandle

from temporal_tenancy.cli._spinners import logs_on
from temporal_tenancy.cli.answers import err
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutResult

LOOK_INTERVAL: Final = 0.5  # seconds
OPEN: Final = (LedgerState.PLANNED, LedgerState.RUNNING)


async def follow(
    database: Database, job: str, tick: str, handle: WorkflowHandle[FanOut, FanOutResult]
) -> FanOutResult:
    """Shows a tick's progress until its fan-out ends, and returns the result."""
    result = asyncio.create_task(handle.result())
    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[notes]}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        ) as progress,
        logs_on(err),
    ):
        bar = progress.add_task(f"{job} {tick}", total=None, notes="")
        while not result.done():
            await _look(database, job, tick, handle.run_id, progress, bar)
            await asyncio.wait({result}, timeout=LOOK_INTERVAL)
        await _look(database, job, tick, handle.run_id, progress, bar)
    return await result


async def _look(
    database: Database, job: str, tick: str, run_id: str | None, progress: Progress, bar: TaskID
) -> None:
    async with database.platform_session("follow a tick") as session:
        row = await ledger.find_tick(session, job, tick)
        if row is None or row.run_id != run_id:
            return  # not planned yet: the rows belong to an earlier run
        counts = await ledger.count(session, job, tick)
    total = sum(counts.values())
    notes = [
        f"{counts[state]:,} {state}"
        for state in (LedgerState.FAILED, LedgerState.SKIPPED)
        if counts[state]
    ]
    progress.update(
        bar,
        total=total or None,
        completed=total - sum(counts[state] for state in OPEN),
        notes=", ".join(notes),
    )

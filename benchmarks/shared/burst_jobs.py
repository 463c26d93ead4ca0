"""The workflows of bursts: many activities at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

from benchmarks.shared.bursts import (
    BURST_QUEUE,
    PIECE_TIMEOUT,
    NamedPiece,
    Nothing,
    Piece,
    change_row,
    compute_piece,
    named_piece,
    wait_piece,
)
from temporal_tenancy import PlatformInput, TenantInput, platform_job, tenant_job


class BurstInput(TenantInput):
    """What a burst takes."""

    pieces: int
    piece: Piece = Piece()


@tenant_job("bench.burst", queue=BURST_QUEUE)
class Burst:
    """Has many activities of one kind run for one tenant."""

    @workflow.run
    async def run(self, job: BurstInput) -> None:
        """Schedules all of them at once."""
        activity = compute_piece if job.piece.hashes or job.piece.megabytes else wait_piece
        await asyncio.gather(
            *(
                workflow.execute_activity(activity, job.piece, start_to_close_timeout=PIECE_TIMEOUT)
                for _ in range(job.pieces)
            )
        )


class ChangeInput(TenantInput):
    """What a change takes."""


@tenant_job("bench.change", queue=BURST_QUEUE)
class Change:
    """Has a row changed for one tenant."""

    @workflow.run
    async def run(self, job: ChangeInput) -> None:
        """Runs the one activity, again for as long as it fails."""
        await workflow.execute_activity(
            change_row,
            Nothing(),
            start_to_close_timeout=PIECE_TIMEOUT,
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10), maximum_attempts=100),
        )


class RoundInput(PlatformInput):
    """What a round takes."""

    tenants: list[str]  # of each activity


@platform_job("bench.round", reason="works for many tenants at once", queue=BURST_QUEUE)
class Round:
    """Has an activity run for each of many tenants."""

    @workflow.run
    async def run(self, request: RoundInput) -> None:
        """Schedules all of them at once."""
        await asyncio.gather(
            *(
                workflow.execute_activity(
                    named_piece,
                    NamedPiece(tenant_id=tenant),
                    start_to_close_timeout=PIECE_TIMEOUT,
                )
                for tenant in request.tenants
            )
        )


BURST_JOBS = [Burst, Change, Round]
BURST_ACTIVITIES: Sequence[Callable[..., Any]] = [
    change_row,
    compute_piece,
    named_piece,
    wait_piece,
]

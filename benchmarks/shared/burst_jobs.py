"""Workflows that schedule many activities at once."""

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
    """Input of `Burst`."""

    pieces: int
    piece: Piece = Piece()


@tenant_job("bench.burst", queue=BURST_QUEUE)
class Burst:
    """Runs many activities of one kind for one tenant."""

    @workflow.run
    async def run(self, job: BurstInput) -> None:
        """Schedules all activities at once."""
        activity = compute_piece if job.piece.hashes or job.piece.megabytes else wait_piece
        await asyncio.gather(
            *(
                workflow.execute_activity(activity, job.piece, start_to_close_timeout=PIECE_TIMEOUT)
                for _ in range(job.pieces)
            )
        )


class ChangeInput(TenantInput):
    """Input of `Change`."""


@tenant_job("bench.change", queue=BURST_QUEUE)
class Change:
    """Changes a row of one tenant."""

    @workflow.run
    async def run(self, job: ChangeInput) -> None:
        """Runs the activity, with up to 100 attempts."""
        await workflow.execute_activity(
            change_row,
            Nothing(),
            start_to_close_timeout=PIECE_TIMEOUT,
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10), maximum_attempts=100),
        )


class RoundInput(PlatformInput):
    """Input of `Round`."""

    tenants: list[str]  # the tenant of each activity


@platform_job("bench.round", reason="works for many tenants at once", queue=BURST_QUEUE)
class Round:
    """Runs an activity for each of many tenants."""

    @workflow.run
    async def run(self, request: RoundInput) -> None:
        """Schedules all activities at once."""
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

"""Activities with a duration, and a log of the order in which the server dispatched them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel
from sqlalchemy import text
from temporalio import activity

from temporal_tenancy import TenantInput, current_tenant, tenant_activity, tenant_session

BURST_QUEUE: Final = "bench-bursts"
# Short, so that a task that is lost on its way to the worker comes again soon.
PIECE_TIMEOUT: Final = timedelta(seconds=30)
CHANGE: Final = text("update daily_usage set events = events + 1")
MEGABYTE: Final = bytes(1_000_000)


class Piece(BaseModel):
    """The work of one activity of a burst."""

    seconds: float = 0.0  # to wait, as for a network response
    megabytes: int = 0  # to fill and hold
    hashes: int = 0  # to compute, each over a megabyte


class Nothing(BaseModel):
    """Empty input of an activity."""


class NamedPiece(TenantInput):
    """Input of an activity that a platform workflow runs for a tenant."""


@dataclass(frozen=True)
class Served:
    """One activity that the server dispatched."""

    tenant: str
    scheduled: datetime  # both by the server's clock
    started: datetime

    @property
    def waited(self) -> float:
        """The seconds from its scheduling to its start."""
        return (self.started - self.scheduled).total_seconds()


class Log:
    """The activities that the workers of this process got, in order of arrival."""

    def __init__(self) -> None:
        self.served: list[Served] = []

    def note(self) -> None:
        """Records the running activity."""
        info = activity.info()
        self.served.append(
            Served(current_tenant(), info.current_attempt_scheduled_time, info.started_time)
        )

    def taken(self) -> Sequence[Served]:
        """Returns, and removes, the activities recorded since the last call."""
        taken, self.served = self.served, []
        return taken


log: Final = Log()


@tenant_activity
async def wait_piece(piece: Piece) -> None:
    """Waits, which occupies a slot but no processor."""
    log.note()
    await asyncio.sleep(piece.seconds)


@tenant_activity
def compute_piece(piece: Piece) -> None:
    """Computes in a thread, with memory allocated."""
    allocated = [bytearray(MEGABYTE) for _ in range(piece.megabytes)]
    for _ in range(piece.hashes):
        hashlib.sha256(MEGABYTE).digest()
    del allocated


@tenant_activity
async def named_piece(piece: NamedPiece) -> None:
    """Returns immediately."""
    log.note()


@tenant_activity
async def change_row(request: Nothing) -> None:
    """Changes the tenant's single row; waits if another transaction has locked it."""
    async with tenant_session() as session:
        await session.execute(CHANGE)

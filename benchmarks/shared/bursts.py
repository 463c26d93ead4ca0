"""Activities that take a while, and the order in which the server gave them out."""

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
# A task that is lost on its way to the worker comes again after this, and not only in minutes.
PIECE_TIMEOUT: Final = timedelta(seconds=30)
CHANGE: Final = text("update daily_usage set events = events + 1")
MEGABYTE: Final = bytes(1_000_000)


class Piece(BaseModel):
    """What an activity of a burst does."""

    seconds: float = 0.0  # that it waits, as for an answer over the network
    megabytes: int = 0  # that it fills, and holds
    hashes: int = 0  # of a megabyte each, that it computes


class Nothing(BaseModel):
    """What an activity takes that always does the same."""


class NamedPiece(TenantInput):
    """What an activity takes that a platform's workflow calls for a tenant."""


@dataclass(frozen=True)
class Served:
    """One activity that was given out."""

    tenant: str
    scheduled: datetime
    started: datetime  # as the server says, both

    @property
    def waited(self) -> float:
        """Seconds from its scheduling to its start."""
        return (self.started - self.scheduled).total_seconds()


class Log:
    """What a worker of this process was given, in the order in which it came."""

    def __init__(self) -> None:
        self.served: list[Served] = []

    def note(self) -> None:
        """Notes the running activity."""
        info = activity.info()
        self.served.append(
            Served(current_tenant(), info.current_attempt_scheduled_time, info.started_time)
        )

    def taken(self) -> Sequence[Served]:
        """What was noted since this was last asked."""
        taken, self.served = self.served, []
        return taken


log: Final = Log()


@tenant_activity
async def wait_piece(piece: Piece) -> None:
    """Waits, which takes a slot and no processor."""
    log.note()
    await asyncio.sleep(piece.seconds)


@tenant_activity
def compute_piece(piece: Piece) -> None:
    """Computes, in a thread of its own."""
    held = [bytearray(MEGABYTE) for _ in range(piece.megabytes)]
    for _ in range(piece.hashes):
        hashlib.sha256(MEGABYTE).digest()
    del held


@tenant_activity
async def named_piece(piece: NamedPiece) -> None:
    """Is done at once."""
    log.note()


@tenant_activity
async def change_row(request: Nothing) -> None:
    """Changes the tenant's one row, which it waits for while another has it locked."""
    async with tenant_session() as session:
        await session.execute(CHANGE)

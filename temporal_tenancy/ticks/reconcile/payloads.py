"""What reconciling returns."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class MissedTick(BaseModel):
    """A tick that was due and never began."""

    job: str
    tick: str
    nominal_time: datetime


class MissedTicks(BaseModel):
    """What was found since it was last looked."""

    found: int
    first: list[MissedTick]  # the first few; the ledger has all


class Settled(BaseModel):
    """How much of the ledger was not as the server has it."""

    ticks: int
    rows: int


class Reconciled(BaseModel):
    """What a run of reconciling came to."""

    missed: MissedTicks
    settled: Settled
    ticks_pruned: int

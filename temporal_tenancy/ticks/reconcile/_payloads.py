"""The results of reconciling."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class MissedTick(BaseModel):
    """A tick that was due and never began."""

    job: str
    tick: str
    nominal_time: datetime


class MissedTicks(BaseModel):
    """The missed ticks that are new since the last run."""

    found: int
    first: list[MissedTick]  # the first ten; the ledger has all


class Settled(BaseModel):
    """How much of the ledger was corrected to what the server says."""

    ticks: int
    rows: int  # that changed


class Reconciled(BaseModel):
    """The result of one run of reconciling."""

    missed: MissedTicks
    settled: Settled
    ticks_pruned: int

"""What a fan-out takes and returns. Every message is bounded, however many tenants there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from temporal_tenancy.control_plane.ledger import Position
from temporal_tenancy.control_plane.tables import LedgerState, TickState
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import JobInput, TenantInput

SHARD_SIZE: Final = 2_000  # tenants at most; fewer where they are slow: a history has its limits
WINDOW: Final = 100  # children at once; more were no faster
FIRST_FAILURES: Final = 10  # named in a result; the ledger has the rest
LONGEST_SPREAD: Final = timedelta(days=1)


class FanOutInput(JobInput):
    """Runs a tenant job for every tenant."""

    tick: str | None = None  # None: counted from the time the schedule meant
    extra: dict[str, Any] = {}  # further fields of the job's input, the same for each tenant
    statuses: list[TenantStatus] | None = None  # None: every tenant that is not deleted
    # Only those that a tick which began was for, and that no other fan-out is still to start.
    missed: bool = False
    cron: str | None = None  # the line of the job's schedule, where its times matter
    local_time: bool = False  # the line is in the tenants' own time zones
    spread: timedelta = Field(default=timedelta(), ge=timedelta(), le=LONGEST_SPREAD)
    max_starts_per_second: float | None = Field(default=None, gt=0)  # None: as fast as may be
    shard_size: int = Field(default=SHARD_SIZE, ge=1, le=SHARD_SIZE)
    window: int = Field(default=WINDOW, ge=1, le=500)


class ShardInput(JobInput):
    """Runs a tenant job for the tenants behind `after`, up to and including `upto`."""

    tick: str
    extra: dict[str, Any]
    statuses: list[TenantStatus] | None
    planned_by: str  # the workflow id of the fan-out
    after: Position | None
    upto: Position
    tenants: int  # between the two
    max_starts_per_second: float | None
    window: int
    number: int  # of the shard in its fan-out, from 0


class Failure(BaseModel):
    """One tenant's failure, as it is shown to people."""

    model_config = ConfigDict(frozen=True)

    tenant_id: str
    reason: str


class Counts(BaseModel):
    """What became of the tenants of one run of a tick."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    already: int = 0  # had succeeded before this run, or in another that ran beside it
    failures: list[Failure] = []  # the first few

    def add(self, other: Counts) -> None:
        """Adds another's numbers to these."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.skipped += other.skipped
        self.already += other.already
        self.failures = [*self.failures, *other.failures][:FIRST_FAILURES]


class Rest(BaseModel):
    """Tenants that a shard leaves to another, because its history is long enough."""

    after: Position
    tenants: int


class AllStarted(BaseModel):
    """What a shard says once it has started its last child."""

    number: int  # of the shard in its fan-out
    shard_id: str  # its workflow id: one of an earlier run may say so too
    rest: Rest | None


class ShardResult(Counts):
    """What became of the tenants of a shard, but for those that it left to another."""

    rest: Rest | None = None


class Planned(BaseModel):
    """A tick, and how many tenants it is for."""

    job: str
    tick: str  # two of them, with a comma, where it is two dates at once on earth
    planned: int


class FanOutResult(Counts, Planned):
    """The outcome of a run of a tick: planned = succeeded + failed + skipped + already."""


class ShardPlan(BaseModel):
    """A shard-to-be: tenants of one tick that have their turns one behind the other."""

    tick: str
    after: Position | None
    upto: Position
    tenants: int


class FanOutPlan(BaseModel):
    """What a fan-out has to do: the shards in their order."""

    ticks: list[str]
    shards: list[ShardPlan]
    tenants: int
    already: int  # of these: had succeeded before


class PlanTicks(BaseModel):
    """Asks for the tenants of a fan-out to be planned."""

    request: FanOutInput
    nominal_time: datetime | None  # that the schedule meant; None: no schedule started it
    now: datetime  # when it began
    workflow_id: str
    run_id: str


class CloseTicks(BaseModel):
    """Says how a fan-out ended."""

    model_config = ConfigDict(frozen=True)

    job: str
    ticks: list[str] | None  # None: those that it has in the ledger
    workflow_id: str
    run_id: str
    state: TickState
    reason: str | None = None  # why the rest was not started


class NextPage(BaseModel):
    """Asks for a shard's next tenants."""

    model_config = ConfigDict(frozen=True)

    job: str
    tick: str
    statuses: list[TenantStatus] | None
    planned_by: str
    after: Position | None
    upto: Position


class Candidate(BaseModel):
    """A tenant that is to run, with its plan's share."""

    tenant_id: str
    weight: float
    due_at: datetime


class Page(BaseModel):
    """Tenants of a shard, and how many were settled without running them."""

    candidates: list[Candidate]
    skipped: int
    last: Position | None  # None: there is no further page


class TenantOutcome(BaseModel):
    """What is now known of one tenant's child."""

    tenant_id: str
    state: LedgerState
    reason: str | None = None
    error_type: str | None = None
    workflow_id: str
    run_id: str | None = None


class RecordOutcomes(BaseModel):
    """Asks for outcomes to be written into the ledger."""

    job: str
    tick: str
    outcomes: list[TenantOutcome]


class ChildRef(TenantInput):
    """A child that another run has started."""

    workflow_id: str

"""The payloads of a fan-out; their size is bounded, however many tenants there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from temporal_tenancy.control_plane.ledger import Position
from temporal_tenancy.control_plane.tables import LedgerState, TickState
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import JobInput, TenantInput

SHARD_SIZE: Final = 2_000  # tenants at most, fewer if they are slow: history size is limited
WINDOW: Final = 100  # concurrent children; more were no faster
FIRST_FAILURES: Final = 10  # listed in a result; the ledger has all
LONGEST_SPREAD: Final = timedelta(days=1)


class FanOutInput(JobInput):
    """Input of a fan-out, which runs a tenant job for every tenant."""

    tick: str | None = None  # None: computed from the schedule's nominal time
    extra: dict[str, Any] = {}  # more fields of the job's input, the same for each tenant
    statuses: list[TenantStatus] | None = None  # None: every tenant that is not deleted
    # `statuses` leaves out tenants that the schedule has, so the tick remains unfinished.
    is_part: bool = False
    # Only tenants that belong to a tick that has begun and that no other fan-out will start.
    missed: bool = False
    cron: str | None = None  # of the job's schedule, if its times matter
    local_time: bool = False  # the cron line is in each tenant's time zone
    # The tenants' starts are spread over this time.
    spread: timedelta = Field(default=timedelta(), ge=timedelta(), le=LONGEST_SPREAD)
    max_starts_per_second: float | None = Field(default=None, gt=0)  # None: no limit
    shard_size: int = Field(default=SHARD_SIZE, ge=1, le=SHARD_SIZE)  # tenants
    window: int = Field(default=WINDOW, ge=1, le=500)  # concurrent children of a shard


class ShardInput(JobInput):
    """Input of a shard: the tenants after `after`, up to and including `upto`."""

    tick: str
    extra: dict[str, Any]
    statuses: list[TenantStatus] | None
    planned_by: str  # the workflow id of the fan-out
    after: Position | None  # None: from the first tenant
    upto: Position
    tenants: int  # in that range
    max_starts_per_second: float | None
    window: int
    number: int  # of the shard in its fan-out, from 0


class Failure(BaseModel):
    """One tenant's failure, for display."""

    model_config = ConfigDict(frozen=True)

    tenant_id: str
    reason: str


class Counts(BaseModel):
    """The tenants' outcomes in one run of a tick, counted."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    already: int = 0  # succeeded before this run, or in a concurrent one
    failures: list[Failure] = []  # the first ten

    def add(self, other: Counts) -> None:
        """Adds the counts of `other`, and its failures up to ten in all."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.skipped += other.skipped
        self.already += other.already
        self.failures = [*self.failures, *other.failures][:FIRST_FAILURES]


class Rest(BaseModel):
    """The tenants that a shard leaves to a further shard, because its history has grown long."""

    after: Position
    tenants: int


class AllStarted(BaseModel):
    """The signal of a shard that has started its last child."""

    number: int  # of the shard in its fan-out, from 0
    shard_id: str  # its workflow id, because a shard of an earlier run may send the signal too
    rest: Rest | None


class ShardResult(Counts):
    """The outcomes of a shard's tenants, without those that it left to a further shard."""

    rest: Rest | None = None


class Planned(BaseModel):
    """A tick, and how many tenants it has."""

    job: str
    tick: str  # two, separated by a comma, if two local dates were served
    planned: int  # tenants


class FanOutResult(Counts, Planned):
    """The outcome of a run of a tick: planned = succeeded + failed + skipped + already."""


class ShardPlan(BaseModel):
    """The range of a planned shard: consecutive tenants of one tick, in the order of turns."""

    tick: str
    after: Position | None  # None: from the first tenant
    upto: Position  # included
    tenants: int


class FanOutPlan(BaseModel):
    """The plan of a fan-out: its shards in order."""

    ticks: list[str]
    shards: list[ShardPlan]
    tenants: int
    already: int  # of these tenants, those that had succeeded before


class PlanTicks(BaseModel):
    """Input of the activity that plans a fan-out's tenants."""

    request: FanOutInput
    nominal_time: datetime | None  # of the schedule; None: no schedule started the fan-out
    now: datetime  # when the fan-out started
    workflow_id: str
    run_id: str


class CloseTicks(BaseModel):
    """Input of the activity that records how a fan-out ended."""

    model_config = ConfigDict(frozen=True)

    job: str
    ticks: list[str] | None  # None: those that the ledger lists for the run
    workflow_id: str
    run_id: str
    state: TickState
    reason: str | None = None  # why the remaining tenants were not started


class NextPage(BaseModel):
    """Input of the activity that reads a shard's next tenants."""

    model_config = ConfigDict(frozen=True)

    job: str
    tick: str
    statuses: list[TenantStatus] | None
    planned_by: str  # the workflow id of the fan-out
    after: Position | None
    upto: Position


class Candidate(BaseModel):
    """A tenant to run, with the fairness weight of its plan."""

    tenant_id: str
    weight: float
    due_at: datetime
    released: bool = False  # a release gives it another worker version than the fan-out's


class Page(BaseModel):
    """A page of a shard's tenants, and how many tenants of it were skipped."""

    candidates: list[Candidate]
    skipped: int
    last: Position | None  # None: this is the last page


class TenantOutcome(BaseModel):
    """The current state of one tenant's child workflow."""

    tenant_id: str
    state: LedgerState
    reason: str | None = None
    error_type: str | None = None
    workflow_id: str
    run_id: str | None = None
    build_id: str | None = None  # of the worker version that a release gave it
    deployment: str | None = None  # of that version


class RecordOutcomes(BaseModel):
    """Input of the activity that records outcomes in the ledger."""

    job: str
    tick: str
    outcomes: list[TenantOutcome]


class ChildRef(TenantInput):
    """A tenant's child workflow that another run has started."""

    workflow_id: str


class StartReleased(ChildRef):
    """Input of the activity that starts a tenant's run on the version released to it."""

    job: str
    tick: str
    extra: dict[str, Any]
    weight: float
    shard_run: str  # the run id of the shard


class StartedRun(BaseModel):
    """A tenant's run that an activity has started."""

    run_id: str
    build_id: str | None  # None: the release has ended meanwhile, so it is on the current version
    deployment: str | None = None  # of that version


class Outside(BaseModel):
    """A run that an activity of the shard has started."""

    tenant_id: str
    workflow_id: str
    build_id: str | None
    deployment: str | None = None


class LookAtRuns(BaseModel):
    """Input of the activity that reads which of a shard's runs have ended."""

    runs: list[Outside]  # at most as many as the window is wide


class EndedRuns(BaseModel):
    """The outcomes of the runs that have ended."""

    outcomes: list[TenantOutcome]

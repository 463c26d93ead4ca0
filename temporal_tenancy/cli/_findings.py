"""What the servers know about one workflow id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus

from temporal_tenancy.cli.answers import Problem
from temporal_tenancy.control_plane.tables import DeadLetterRow, LedgerState
from temporal_tenancy.core.errors import (
    InvalidPayload,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, job_of
from temporal_tenancy.outbox.work_off import work_off_job
from temporal_tenancy.sdk.suspension import is_waiting
from temporal_tenancy.sdk.taken_ids import disagreement
from temporal_tenancy.ticks.fan_out import FanOut
from temporal_tenancy.ticks.fan_out.workflows import Shard

# The start itself was wrong: the error says how, and another start would fail too.
_WRONG_STARTS: Final = frozenset(
    error.__name__ for error in (TenantMissing, TenantInvalid, TenantMismatch, InvalidPayload)
)
_FAILED: Final = (
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT,
)


@dataclass
class Findings:
    """What the servers know about one workflow id."""

    workflow_id: str
    parts: WorkflowId | None  # None: not an id of the form {owner}/{job}/{key}
    job: Job | None  # None: not in the registry
    tick: str | None = None  # of a fan-out
    run: WorkflowExecutionDescription | None = None  # None: never started, or deleted by retention
    input: dict[str, Any] = field(default_factory=dict)  # of the run
    waiting: list[str] = field(default_factory=list)
    failure: Problem | None = None
    result: Any = None  # JSON
    entry: dict[str, Any] | None = None  # in the ledger
    refused: str | None = None  # why the tenant may not run it now
    likely_tenant: str | None = None  # an id like that of a tenant that does not exist
    message: dict[str, Any] | None = None  # in the outbox
    letter: DeadLetterRow | None = None
    unasked: Exception | None = None  # why the control plane could not be asked

    @property
    def is_paused(self) -> bool:
        """Whether an activity of the run waits until its tenant is resumed."""
        return self.run is not None and any(
            map(is_waiting, self.run.raw_description.pending_activities)
        )

    @property
    def taken_by(self) -> str | None:
        """What else uses a job's workflow id; None if nothing does."""
        if self.run is None or self.parts is None or self.job is None:
            return None
        own = (_name(FanOut), _name(Shard)) if self.parts.tenant is None else (work_off_job().name,)
        return disagreement(self.run, self.parts.job, *own)

    @property
    def kind(self) -> str:
        """Tenant job, tick, shard, or unknown."""
        if self.taken_by is not None:
            return "unknown"
        if self.run is not None and self.run.workflow_type in (_name(FanOut), _name(Shard)):
            return "tick" if self.run.workflow_type == _name(FanOut) else "shard"
        if self.parts is not None and self.parts.tenant and self.job is not None:
            return "tenant job"
        return "unknown"

    @property
    def state(self) -> str | None:
        """The state in the ledger; None if it has no row."""
        return None if self.entry is None else str(self.entry["state"])

    @property
    def has_failed(self) -> bool:
        """Whether its last run has failed, as far as the servers remember."""
        if self.run is None:
            return self.state == LedgerState.FAILED
        return self.run.status in _FAILED

    @property
    def was_wrongly_started(self) -> bool:
        """Whether another start with the same input would fail in the same way."""
        kinds = (self.failure and self.failure.type, self.letter and self.letter.error_type)
        return next((kind for kind in kinds if kind), None) in _WRONG_STARTS


def _name(cls: type) -> str:
    job = job_of(cls)
    assert job is not None
    return job.name

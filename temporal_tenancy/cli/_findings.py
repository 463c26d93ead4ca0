"""What the servers know about one workflow id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from temporalio.api.enums.v1 import VersioningBehavior
from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus

from temporal_tenancy.cli._pending import CODE_FAILS
from temporal_tenancy.cli.answers import Problem
from temporal_tenancy.control_plane.tables import DeadLetterRow, LedgerState
from temporal_tenancy.core.errors import (
    InvalidPayload,
    StoreMismatch,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, job_of
from temporal_tenancy.core.places import names_place
from temporal_tenancy.outbox.work_off import work_off_job
from temporal_tenancy.postgres.database_errors import DatabaseProblem
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
    input_fits: bool | None = None  # whether a start with its input is accepted; None: not known
    waiting: list[str] = field(default_factory=list)
    failure: Problem | None = None
    result: Any = None  # JSON
    entry: dict[str, Any] | None = None  # in the ledger
    refused: str | None = None  # why the tenant may not run it now
    likely_tenant: str | None = None  # an id like that of a tenant that does not exist
    message: dict[str, Any] | None = None  # in the outbox
    letter: DeadLetterRow | None = None
    unasked: Exception | None = None  # why the control plane could not be asked
    # Why the tenant's own store could not be asked:
    store_away: DatabaseProblem | StoreMismatch | None = None

    @property
    def is_handled_with_others(self) -> bool:
        """Whether one workflow handles several messages of the job."""
        return self.job is not None and self.job.coalesce is not None

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
        return self._why[0] in _WRONG_STARTS and self.input_fits is not True

    @property
    def is_a_bug(self) -> bool:
        """Whether the failure is one of the application's code, which must be mended first."""
        kind, message = self._why
        return names_place(message) or (kind in _WRONG_STARTS and self.input_fits is True)

    @property
    def is_stuck_in_its_code(self) -> bool:
        """Whether its workflow code fails again and again, and the run stays open."""
        return any(each.startswith(CODE_FAILS) for each in self.waiting)

    @property
    def is_pinned(self) -> bool:
        """Whether the run ends on the version of the workers that it began on."""
        if self.run is None:
            return False
        versioning = self.run.raw_description.workflow_execution_info.versioning_info
        return versioning.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_PINNED

    @property
    def _why(self) -> tuple[str | None, str]:
        """The type and the message of the last failure that anybody knows of."""
        if self.failure is not None:
            return self.failure.type, self.failure.message
        if self.letter is not None:
            return self.letter.error_type, self.letter.message or ""
        return None, ""


def _name(cls: type) -> str:
    job = job_of(cls)
    assert job is not None
    return job.name

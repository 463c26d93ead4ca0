"""Requests jobs for a tenant's own program, by name and fields, and returns their status.

An application builds its HTTP API from this and its authentication.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, WorkflowExecutionStatus

from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState
from temporal_tenancy.core.directory import Tenant, require_record
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import internal_fields, read_input
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.core.words import duration
from temporal_tenancy.outbox.enqueueing import enqueue_or_find
from temporal_tenancy.outbox.inspection import find_message
from temporal_tenancy.outbox.tables import MessageStatus, OutboxMessage
from temporal_tenancy.postgres.control_session import control_session
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import KeyReused, disagreement

_ENDED_BADLY: Final = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.CANCELED,
    }
)


class RunStatus(StrEnum):
    """The status of a requested job."""

    WAITING = "waiting"  # for its time, its turn, or its tenant
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # permanently; a person may start it again


@dataclass(frozen=True)
class Requested:
    """A requested job."""

    id: UUID  # the message's
    key: str
    added: bool  # by this request; False: it had been requested before, and is unchanged
    status: RunStatus
    scheduled_at: datetime  # not before


@dataclass(frozen=True)
class RequestState:
    """The status of a requested job; if it has failed, with the reason."""

    status: RunStatus
    error_type: str | None = None
    error_message: str | None = None


async def request_job(
    tenant: Tenant,
    job: Job,
    fields: Mapping[str, Any],  # JSON
    *,
    key: str | None = None,
    at: datetime | None = None,
    ahead_max: timedelta | None = None,
    session: AsyncSession | None = None,
) -> Requested:
    """Requests a job for `tenant`; call it in the tenant's scope.

    Args:
        tenant: the tenant of the job.
        job: the job to start.
        fields: the job's input; it may omit the tenant.
        key: requests with the same key start one job. Defaults to the period if the job has one,
            otherwise to the message's id.
        at: the earliest start (aware); defaults to now.
        ahead_max: how far in the future `at` may be.
        session: the open `tenant_session()`, to request the job in its transaction; by default,
            the job is requested in a new one.

    Raises:
        TenancyError: the tenant may not run the job now; or the fields, the key or the time are
            not valid; or the fields name another tenant; or another input uses the key.
    """
    require_runnable(require_record(tenant).id, tenant, job)
    if at is not None and ahead_max is not None and at > datetime.now(UTC) + ahead_max:
        raise InvalidPayload(f"a job can start at most {duration(ahead_max)} ahead.")
    if key is not None:
        WorkflowId(tenant.id, job.name, key)  # raises for a key that is not valid
    values = job.with_period(_with_tenant(tenant.id, fields), key)
    what = f"the input of {job.name}"
    if internal := sorted(internal_fields(job.input_model) & set(values)):
        raise InvalidPayload(f"{what} has a field that only its own runs set: {internal[0]}.")
    job_input = read_input(job.input_model, values, what=what)
    async with nullcontext() if session is not None else tenant_session():
        message = await enqueue_or_find(job.name, job_input, key=key, at=at)
    return Requested(
        id=message.id,
        key=message.key,
        added=message.added,
        status=(
            RunStatus.STARTED if message.status is MessageStatus.COMPLETED else RunStatus.WAITING
        ),
        scheduled_at=message.scheduled_at,
    )


async def request_state(
    job: str, key: str, ask: Callable[[str], Awaitable[WorkflowExecutionStatus | None]]
) -> RequestState | None:
    """Returns the state of the current tenant's job, or None for an unknown job.

    `ask` returns the status of a workflow id's latest run, as `run_status()` does. It is called
    only if the database does not have the answer, so Temporal may be unavailable otherwise.
    """
    try:
        workflow_id = WorkflowId(current_tenant(), job, key)
    except TenantMismatch:
        return None
    records = await _recorded(workflow_id)
    status, run = _by_records(records), None
    if status is None:
        run = await ask(records.workflow_id(workflow_id))
        # A run is recorded before it ends, but maybe after the first read.
        records = await _recorded(workflow_id)
        status = _by_records(records) or _by_run(run, records)
    if status is None:
        return None
    if status is RunStatus.FAILED and records.letter is not None:
        return RequestState(status, records.letter.error_type, records.letter.message)
    if status is RunStatus.FAILED and run in _WITHOUT_LETTER:
        # The sweep records a letter for it, with the reason, within the hour.
        return RequestState(status, *_WITHOUT_LETTER[run])
    return RequestState(status)


async def run_status(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """Returns the status of the latest run of a job's workflow id.

    Returns None if the server has no such run (any more), or if another workflow uses the id.
    Raises `RPCError` if the server does not answer.
    """
    run = await if_known(client.get_workflow_handle(workflow_id).describe())
    if run is None or disagreement(run, WorkflowId.parse(workflow_id).job) is not None:
        return None
    return run.status


@dataclass(frozen=True)
class _Records:
    """The rows of the database for a requested job."""

    message: OutboxMessage | None
    letter: DeadLetterRow | None

    def workflow_id(self, own: WorkflowId) -> str:
        """The id under which the job runs: a replay of a reused key has one of its own."""
        return str(own) if self.letter is None else self.letter.workflow_id


async def _recorded(workflow_id: WorkflowId) -> _Records:
    async with tenant_session() as session:
        message = await find_message(session, workflow_id.job, workflow_id.key)
        tenant = current_tenant()
        its_letter = select(DeadLetterRow).where(
            DeadLetterRow.tenant_id == tenant,
            DeadLetterRow.workflow_id == _letter_id(workflow_id, message),
        )
        reason = "look up a dead letter"
        async with control_session(session, reason, owners=[tenant]) as control:
            letter = await control.scalar(its_letter)
    return _Records(message, letter)


def _letter_id(workflow_id: WorkflowId, message: OutboxMessage | None) -> str:
    """Returns the id of the letter: another one if the run of another request has the key."""
    if (
        message is not None
        and message.status == MessageStatus.DEAD_LETTER
        and message.error_type == KeyReused.__name__
    ):
        return str(WorkflowId(workflow_id.owner, workflow_id.job, str(message.id)))
    return str(workflow_id)


def _by_records(records: _Records) -> RunStatus | None:
    """Returns the status by the database alone; None if Temporal must decide."""
    message, letter = records.message, records.letter
    if message is not None and message.status in _UNDER_WAY:
        # A message with a workflow is one of several that the workflow handles.
        return RunStatus.STARTED if message.workflow_id else RunStatus.WAITING
    if letter is not None and letter.status in _BY_A_PERSON:
        return _BY_A_PERSON[DeadLetterState(letter.status)]
    if message is not None and message.status == MessageStatus.COMPLETED and message.workflow_id:
        return RunStatus.SUCCEEDED
    return None


def _by_run(run: WorkflowExecutionStatus | None, records: _Records) -> RunStatus | None:
    """Returns the status by the run; None if the database has no rows either."""
    if run is WorkflowExecutionStatus.COMPLETED:
        return RunStatus.SUCCEEDED
    if run in _ENDED_BADLY:
        return RunStatus.FAILED
    if run is None and records.message is None and records.letter is None:
        return None
    return RunStatus.STARTED


_WITHOUT_LETTER: Final = {
    WorkflowExecutionStatus.TERMINATED: ("Terminated", "its run was terminated."),
    WorkflowExecutionStatus.TIMED_OUT: ("Timeout", "its run took longer than it may."),
    WorkflowExecutionStatus.CANCELED: ("Cancelled", "its run was cancelled."),
}
"""The error's type and message, by the status of a run that could not record a letter."""
_UNDER_WAY: Final = (MessageStatus.PENDING, MessageStatus.PROCESSING, MessageStatus.FAILED)
_BY_A_PERSON: Final = {
    DeadLetterState.OPEN: RunStatus.FAILED,
    DeadLetterState.DISCARDED: RunStatus.FAILED,
    DeadLetterState.RESOLVED: RunStatus.SUCCEEDED,
}
"""The status by a dead letter's state; after a replay, the run decides."""


def _with_tenant(tenant: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields with the tenant; raises `TenantMismatch` if they name another."""
    values = dict(fields)
    if values.setdefault("tenant_id", tenant) != tenant:
        raise TenantMismatch(
            f'the input names another tenant than the key, which is {tenant}\'s. Leave "tenant_id" '
            "out."
        )
    return values

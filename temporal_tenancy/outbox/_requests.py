"""Job requests of a tenant's own program, by name and fields, and their states.

An application's HTTP door is this, and whom it lets in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from temporalio.client import Client, WorkflowExecutionStatus

from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState
from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.outbox.enqueueing import enqueue_or_find
from temporal_tenancy.outbox.inspection import find_message
from temporal_tenancy.outbox.tables import MessageStatus, OutboxMessage
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement

_ENDED_BADLY: Final = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.CANCELED,
    }
)


class RunStatus(StrEnum):
    """The state of a requested job."""

    WAITING = "waiting"  # for its time, its turn, or its tenant
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # for good; somebody may start it again


@dataclass(frozen=True)
class Requested:
    """A requested job."""

    id: UUID  # the message's
    key: str
    added: bool  # by this request; False: it was asked for already, and is left as it was
    status: RunStatus
    scheduled_at: datetime  # not before


@dataclass(frozen=True)
class RequestState:
    """The state of a requested job, and the error if it failed."""

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
) -> Requested:
    """Requests a job of `tenant` in a session of its own; call it in that tenant's scope.

    Args:
        tenant: who asks.
        job: what is asked for.
        fields: the job's input; the tenant may be left out of it.
        key: makes it one, however often it is asked for. If not given: the period of a job that
            has one, and of any other the message's id.
        at: not before this time (aware); at once if not given.
        ahead_max: how far ahead that may be.

    Raises:
        TenancyError: the tenant may not run the job now; or the fields, the key or the time do not
            fit; or the fields name another tenant; or the key is taken by another input.
    """
    require_runnable(tenant.id, tenant, job)
    if at is not None and ahead_max is not None and at > datetime.now(UTC) + ahead_max:
        raise InvalidPayload(f"a job is asked for {ahead_max.days} days ahead at most.")
    if key is not None:
        WorkflowId(tenant.id, job.name, key)  # raises where it cannot be one
    values = job.with_period(_with_tenant(tenant.id, fields), key)
    job_input = read_input(job.input_model, values, what=f"the input of {job.name}")
    async with tenant_session():
        there = await enqueue_or_find(job.name, job_input, key=key, at=at)
    return Requested(
        id=there.id,
        key=there.key,
        added=there.added,
        status=(
            RunStatus.STARTED if there.status is MessageStatus.COMPLETED else RunStatus.WAITING
        ),
        scheduled_at=there.scheduled_at,
    )


async def request_state(
    job: str, key: str, ask: Callable[[str], Awaitable[WorkflowExecutionStatus | None]]
) -> RequestState | None:
    """Returns the state of the current tenant's job, or None if nothing is known of it.

    `ask` says how the latest run of a workflow id stands, as `run_status()` does. It is called only
    where the database does not say, so that Temporal may be away otherwise.
    """
    try:
        workflow_id = WorkflowId(current_tenant(), job, key)
    except TenantMismatch:
        return None
    records = await _recorded(workflow_id)
    status = _by_records(records)
    if status is None:
        run = await ask(str(workflow_id))
        # A run is recorded before it ends, but maybe after the first look.
        records = await _recorded(workflow_id)
        status = _by_records(records) or _by_run(run, records)
    if status is None:
        return None
    if status is RunStatus.FAILED and records.letter is not None:
        return RequestState(status, records.letter.error_type, records.letter.message)
    return RequestState(status)


async def run_status(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """Returns the status of the latest run of a job's workflow id.

    None where there is none, it was forgotten, or something else has the id. Raises `RPCError`
    where the server does not answer.
    """
    run = await if_known(client.get_workflow_handle(workflow_id).describe())
    if run is None or disagreement(run, WorkflowId.parse(workflow_id).job) is not None:
        return None
    return run.status


@dataclass(frozen=True)
class _Records:
    """The database's records of a requested job."""

    message: OutboxMessage | None
    letter: DeadLetterRow | None


async def _recorded(workflow_id: WorkflowId) -> _Records:
    async with tenant_session() as session:
        message = await find_message(session, workflow_id.job, workflow_id.key)
        letter = await session.scalar(
            select(DeadLetterRow).where(
                DeadLetterRow.tenant_id == current_tenant(),
                DeadLetterRow.workflow_id == str(workflow_id),
            )
        )
    return _Records(message, letter)


def _by_records(records: _Records) -> RunStatus | None:
    """Returns the status by the database alone, or None if only Temporal can tell."""
    message, letter = records.message, records.letter
    if message is not None and message.status in _UNDER_WAY:
        # With a workflow it is one of several that are worked off there.
        return RunStatus.STARTED if message.workflow_id else RunStatus.WAITING
    if letter is not None and letter.status in _BY_A_PERSON:
        return _BY_A_PERSON[DeadLetterState(letter.status)]
    if message is not None and message.status == MessageStatus.COMPLETED and message.workflow_id:
        return RunStatus.SUCCEEDED
    return None


def _by_run(run: WorkflowExecutionStatus | None, records: _Records) -> RunStatus | None:
    """Returns the status by the run, or None if the database has no record either."""
    if run is WorkflowExecutionStatus.COMPLETED:
        return RunStatus.SUCCEEDED
    if run in _ENDED_BADLY:
        return RunStatus.FAILED
    if run is None and records.message is None and records.letter is None:
        return None
    return RunStatus.STARTED


_UNDER_WAY: Final = (MessageStatus.PENDING, MessageStatus.PROCESSING, MessageStatus.FAILED)
_BY_A_PERSON: Final = {
    DeadLetterState.OPEN: RunStatus.FAILED,
    DeadLetterState.DISCARDED: RunStatus.FAILED,
    DeadLetterState.RESOLVED: RunStatus.SUCCEEDED,
}
"""The status that a dead letter implies; once it was replayed, its run decides."""


def _with_tenant(tenant: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the input's fields with the tenant; raises `TenantMismatch` for another's."""
    values = dict(given)
    if values.setdefault("tenant_id", tenant) != tenant:
        raise TenantMismatch(
            f'the input names another tenant than the key, which is {tenant}\'s. Leave "tenant_id" '
            "out."
        )
    return values

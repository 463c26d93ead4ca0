"""Jobs that tenants' own programs ask for, and what has become of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from temporalio.client import WorkflowExecutionStatus

from processes.web.bodies import read_json
from processes.web.callers import Authenticated
from processes.web.door import Door, door_of
from processes.web.errors import Problem, documented
from processes.web.refusals import JobUnknown, RunUnknown
from temporal_tenancy.control_plane.models import DeadLetterRow, DeadLetterState
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.instants import Instant
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.outbox import MessageStatus, OutboxMessage, enqueue_or_find
from temporal_tenancy.outbox.inspection import find_message
from temporal_tenancy.postgres.database import tenant_session

AHEAD_MAX: Final = timedelta(days=366)


class JobRequest(BaseModel):
    """What is asked for; whose job it is comes from the credential."""

    model_config = ConfigDict(frozen=True)

    input: dict[str, Any] = {}  # JSON: the job's own fields
    key: str | None = None  # makes it one, however often it is asked for
    at: Instant | None = None  # not before


class JobLinks(BaseModel):
    """Where a job's run is found."""

    self: str


class RunStatus(StrEnum):
    """What has become of a job that was asked for."""

    WAITING = "waiting"  # for its time, its turn, or its tenant
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # for good; somebody may start it again


class AskedJob(BaseModel):
    """A job that has been asked for."""

    message_id: UUID
    job: str
    key: str
    added: bool  # by this request; false: it was asked for already, and is left as it was
    status: RunStatus
    scheduled_at: datetime  # not before
    links: JobLinks


class RunState(BaseModel):
    """A job's run, by its key."""

    job: str
    key: str
    status: RunStatus
    error: Problem | None = None  # why it has failed


REQUEST: Final[dict[str, Any]] = {  # OpenAPI, for what is read by hand
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobRequest.model_json_schema()}},
    }
}
_ENDED_BADLY: Final = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.CANCELED,
    }
)

router: Final = APIRouter(prefix="/jobs", tags=["jobs"])


@router.post(
    "/{job}",
    status_code=202,
    openapi_extra=REQUEST,
    responses=documented(401, 403, 404, 409, 413, 415, 422),
)
async def ask_for_job(request: Request, job: str, caller: Authenticated) -> AskedJob:
    """Ask for a job, which is started soon after, or at the time that is given.

    A key makes it one: asked for again with the same key, it is not done again, and the answer says
    that it was there and when it will run; with another input it is refused. Without a key it has
    the job's period, or what nothing else has; a job with a period takes no other key.
    """
    wanted = _job(door_of(request), job)
    asked = await read_json(request, JobRequest)
    require_runnable(caller.tenant.id, caller.tenant, wanted)
    if asked.at is not None and asked.at > datetime.now(UTC) + AHEAD_MAX:
        raise InvalidPayload(f"a job is asked for {AHEAD_MAX.days} days ahead at most.")
    if asked.key is not None:
        WorkflowId(caller.tenant.id, wanted.name, asked.key)  # raises where it cannot be one
    values = wanted.with_period(_with_tenant(asked.input), asked.key)
    job_input = read_input(wanted.input_model, values, what=f"the input of {wanted.name}")
    async with tenant_session():
        there = await enqueue_or_find(wanted.name, job_input, key=asked.key, at=asked.at)
    return AskedJob(
        message_id=there.id,
        job=wanted.name,
        key=there.key,
        added=there.added,
        status=(
            RunStatus.STARTED if there.status is MessageStatus.COMPLETED else RunStatus.WAITING
        ),
        scheduled_at=there.scheduled_at,
        links=JobLinks(self=f"{router.prefix}/{wanted.name}/{quote(there.key, safe='')}"),
    )


@router.get("/{job}/{key:path}", responses=documented(401, 404))
async def show_run(request: Request, job: str, key: str, caller: Authenticated) -> RunState:
    """Show what has become of a job that was asked for."""
    door = door_of(request)
    wanted = _job(door, job)
    try:
        workflow_id = WorkflowId(current_tenant(), wanted.name, key)
    except TenantMismatch:
        raise RunUnknown from None
    records = await _recorded(workflow_id)
    status = _by_records(records)
    if status is None:
        run = await door.runs.status(str(workflow_id))
        # What is behind an end is recorded before it, but may be so behind the first look.
        records = await _recorded(workflow_id)
        status = _by_records(records) or _by_run(run, records)
    error = None
    if status is RunStatus.FAILED and records.letter is not None:
        error = Problem(type=records.letter.error_type, message=records.letter.message)
    return RunState(job=wanted.name, key=key, status=status, error=error)


@dataclass(frozen=True)
class _Records:
    """What the database knows of a job that was asked for."""

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
    """The status by what the database says alone; None: Temporal is to be asked."""
    message, letter = records.message, records.letter
    if message is not None and message.status in _UNDER_WAY:
        # With a workflow it is one of several that are worked off there.
        return RunStatus.STARTED if message.workflow_id else RunStatus.WAITING
    if letter is not None and letter.status in _BY_A_PERSON:
        return _BY_A_PERSON[DeadLetterState(letter.status)]
    if message is not None and message.status == MessageStatus.COMPLETED and message.workflow_id:
        return RunStatus.SUCCEEDED
    return None


def _by_run(run: WorkflowExecutionStatus | None, records: _Records) -> RunStatus:
    """The status by the run; raises `RunUnknown` where the database knows of none either."""
    if run is WorkflowExecutionStatus.COMPLETED:
        return RunStatus.SUCCEEDED
    if run in _ENDED_BADLY:
        return RunStatus.FAILED
    if run is None and records.message is None and records.letter is None:
        raise RunUnknown
    return RunStatus.STARTED


_UNDER_WAY: Final = (MessageStatus.PENDING, MessageStatus.PROCESSING, MessageStatus.FAILED)
_BY_A_PERSON: Final = {
    DeadLetterState.OPEN: RunStatus.FAILED,
    DeadLetterState.DISCARDED: RunStatus.FAILED,
    DeadLetterState.RESOLVED: RunStatus.SUCCEEDED,
}
"""What a dead letter says by itself; of one that was replayed, its run has the word."""


def _job(door: Door, name: str) -> Job:
    job = registry.get(name) if name in door.open_jobs else None
    if job is None:
        known = ", ".join(sorted(set(door.open_jobs) & set(registry)))
        raise JobUnknown(f"no such job can be asked for here. There are: {known}.")
    return job


def _with_tenant(given: dict[str, Any]) -> dict[str, Any]:
    """The input's fields with the caller's tenant; raises `TenantMismatch` for another's."""
    tenant = current_tenant()
    values = dict(given)
    if values.setdefault("tenant_id", tenant) != tenant:
        raise TenantMismatch(
            f'the input names another tenant than the key, which is {tenant}\'s. Leave "tenant_id" '
            "out."
        )
    return values

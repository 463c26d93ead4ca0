"""Jobs that tenants' own programs request, and their status."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from processes.web.bodies import read_json
from processes.web.callers import Authenticated
from processes.web.door import Door, door_of
from processes.web.errors import Problem, documented
from processes.web.refusals import JobUnknown, RunUnknown
from temporal_tenancy import Instant, Job, registry
from temporal_tenancy.outbox import RunStatus, request_job, request_state

AHEAD_MAX: Final = timedelta(days=366)


class JobRequest(BaseModel):
    """A request for a job of the credential's tenant."""

    model_config = ConfigDict(frozen=True)

    input: dict[str, Any] = {}  # JSON: the job's own fields
    key: str | None = None  # idempotency key: repeated requests with it make one job
    at: Instant | None = None  # the earliest start


class JobLinks(BaseModel):
    """Links to a job's run."""

    self: str


class AskedJob(BaseModel):
    """A requested job."""

    message_id: UUID
    job: str
    key: str
    added: bool  # false: the job had been requested before, and is unchanged
    status: RunStatus
    scheduled_at: datetime  # the earliest start
    links: JobLinks


class RunState(BaseModel):
    """A job's run, by its key."""

    job: str
    key: str
    status: RunStatus
    error: Problem | None = None  # why it failed


REQUEST: Final[dict[str, Any]] = {  # OpenAPI of a body that FastAPI does not parse
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobRequest.model_json_schema()}},
    }
}
router: Final = APIRouter(prefix="/jobs", tags=["jobs"])


@router.post(
    "/{job}",
    status_code=202,
    openapi_extra=REQUEST,
    responses=documented(401, 403, 404, 409, 413, 415, 422),
)
async def ask_for_job(request: Request, job: str, caller: Authenticated) -> AskedJob:
    """Request a job, which starts soon after, or at the given time.

    The key makes the request idempotent: a repeated request with the same key does not run the job
    again, and returns the existing request with its start time; with a different input it is an
    error. The default key is the job's period, or else a unique one; a job with a period accepts
    no other key.
    """
    wanted = _job(door_of(request), job)
    asked = await read_json(request, JobRequest)
    there = await request_job(
        caller.tenant, wanted, asked.input, key=asked.key, at=asked.at, ahead_max=AHEAD_MAX
    )
    return AskedJob(
        message_id=there.id,
        job=wanted.name,
        key=there.key,
        added=there.added,
        status=there.status,
        scheduled_at=there.scheduled_at,
        links=JobLinks(self=f"{router.prefix}/{wanted.name}/{quote(there.key, safe='')}"),
    )


@router.get("/{job}/{key:path}", responses=documented(401, 404))
async def show_run(request: Request, job: str, key: str, caller: Authenticated) -> RunState:
    """Show the status of a requested job."""
    door = door_of(request)
    wanted = _job(door, job)
    state = await request_state(wanted.name, key, door.runs.status)
    if state is None:
        raise RunUnknown
    error = None
    if state.error_type is not None and state.error_message is not None:
        error = Problem(type=state.error_type, message=state.error_message)
    return RunState(job=wanted.name, key=key, status=state.status, error=error)


def _job(door: Door, name: str) -> Job:
    job = registry.get(name) if name in door.open_jobs else None
    if job is None:
        known = ", ".join(sorted(set(door.open_jobs) & set(registry)))
        raise JobUnknown(f"this job cannot be requested here. The available ones are: {known}.")
    return job

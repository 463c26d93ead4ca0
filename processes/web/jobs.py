"""Jobs that tenants' own programs request, and their status."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from processes.web.bodies import as_sent, read_json
from processes.web.callers import Authenticated
from processes.web.door import Door, door_of
from processes.web.errors import Problem, documented
from processes.web.failures import failure
from processes.web.idempotency import Key, answered_once
from processes.web.job_checks import refuse_what_cannot_be_done
from processes.web.reference import json_body
from processes.web.refusals import JobUnknown, RunUnknown
from saas.periods import last_period
from temporal_tenancy import Instant, Job, registry
from temporal_tenancy.core import require_runnable
from temporal_tenancy.outbox import (
    Enqueued,
    MessageStatus,
    Requested,
    RunStatus,
    request_job,
    request_state,
)

AHEAD_MAX: Final = timedelta(days=366)
ELSEWHERE: Final = {"contacts.import": "POST /imports"}  # the routes that request other jobs


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
    links: JobLinks


router: Final = APIRouter(prefix="/jobs", tags=["jobs"])


@router.post(
    "/{job}",
    status_code=202,
    response_model=AskedJob,
    openapi_extra=json_body(JobRequest),
    responses=documented(401, 403, 404, 409, 413, 415, 422),
)
async def ask_for_job(
    request: Request, job: str, caller: Authenticated, idempotency_key: Key = None
) -> JSONResponse:
    """Request a job, which starts soon after, or at the given time.

    The key makes the request idempotent: a repeated request with the same key does not run the job
    again, and returns the existing request with its start time; with a different input it is an
    error. The default key is the job's period, or else a unique one; a job with a period accepts
    no other key.

    The default period is the last whole day or month in the tenant's time zone, and a period must
    be over by the start. What the input names must exist: a wrong id is 404, and nothing is
    requested. Imports, exports and syncs are requested by their own routes; these jobs repeat one
    of them, or bring the search index in step with an item.
    """
    wanted = _job(door_of(request), job)
    asked = await read_json(request, JobRequest)
    require_runnable(caller.tenant.id, caller.tenant, wanted)
    key = asked.key
    if wanted.period is not None and key is None and "period" not in asked.input:
        key = last_period(wanted.period, caller.tenant.time_zone)

    async def make(session: AsyncSession) -> AskedJob:
        await refuse_what_cannot_be_done(
            session, caller.tenant, wanted, asked.input, key=key, at=asked.at
        )
        there = await request_job(
            caller.tenant,
            wanted,
            asked.input,
            key=key,
            at=asked.at,
            ahead_max=AHEAD_MAX,
            session=session,
        )
        return asked_job(wanted, there)

    return await answered_once(request, idempotency_key, as_sent(asked), make)


def asked_job(job: Job, asked: Requested | Enqueued) -> AskedJob:
    """Returns the response for a requested job."""
    started = asked.status in (RunStatus.STARTED, MessageStatus.COMPLETED)
    return AskedJob(
        message_id=asked.id,
        job=job.name,
        key=asked.key,
        added=asked.added,
        status=RunStatus.STARTED if started else RunStatus.WAITING,
        scheduled_at=asked.scheduled_at,
        links=_links(job, asked.key),
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
        error = failure(state.error_type, state.error_message)
    return RunState(
        job=wanted.name, key=key, status=state.status, error=error, links=_links(wanted, key)
    )


def _links(job: Job, key: str) -> JobLinks:
    return JobLinks(self=f"{router.prefix}/{job.name}/{quote(key, safe='')}")


def _job(door: Door, name: str) -> Job:
    job = registry.get(name) if name in door.open_jobs else None
    if job is None and (route := ELSEWHERE.get(name)) is not None:
        raise JobUnknown(f"{name} is requested with {route}.")
    if job is None:
        known = ", ".join(sorted(set(door.open_jobs) & set(registry)))
        raise JobUnknown(f"this job cannot be requested here. The available ones are: {known}.")
    return job

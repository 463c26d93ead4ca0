"""Starts a job for every tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.cli._fairness import warn_where_off
from temporal_tenancy.cli._following import say_where
from temporal_tenancy.cli._periods import last_tick, refuse_unfinished_tick
from temporal_tenancy.cli._progress import follow
from temporal_tenancy.cli._server_access import Servers, directory_of, servers
from temporal_tenancy.cli._waiting import problem_of, warn_without_worker
from temporal_tenancy.cli.answers import (
    Answer,
    Problem,
    address,
    err,
    lines,
    sentence,
    table,
    whole,
)
from temporal_tenancy.cli.program import current_application, with_hint
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.tenant_id_types import example_id
from temporal_tenancy.core.words import number
from temporal_tenancy.sdk.taken_ids import own_run_and_input, require_same_input
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult, tick_of
from temporal_tenancy.ticks.fan_out.children import FAN_OUT, child_input, require_shared

COUNTS = ("planned", "succeeded", "failed", "skipped", "already")

Handle = WorkflowHandle[FanOut, FanOutResult]


async def fan_out(
    job_name: str,
    *,
    tick: str | None,
    where: str | None,
    input_json: str | None,
    wait: bool,
    quiet: bool,
) -> Answer:
    """Starts a tick's fan-out, or follows the one that is running.

    Raises:
        TenancyError: the tick or the input does not fit the job, or another workflow uses the
            fan-out's id; nothing was started.
    """
    job = arguments.tenant_job(job_name)
    now = datetime.now(UTC)
    request = as_scheduled(job, tick or tick_of(job, now))
    if input_json is not None:
        extra = arguments.input_fields(input_json, what=f"the input of {job.name}")
        request = request.model_copy(update={"extra": extra})
    # Raise for an input that no tenant can use.
    require_shared(job, request.extra)
    child_input(job, example_id(), str(request.tick), request.extra)
    statuses = arguments.where(where)
    if statuses is not None:
        request = narrowed(request, statuses)
    async with servers() as connections:
        directory = directory_of(connections.database)
        if tick is None:
            tick = await last_tick(job, request, directory, now)
            request = request.model_copy(update={"tick": tick})
        await refuse_unfinished_tick(job, request, directory)
        workflow_id = workflow_id_of(job, tick)
        await warn_where_off(connections.database, connections.client.namespace)
        handle, started = await start(connections, job, request)
        document: dict[str, Any] = {
            "job": job.name,
            "tick": tick,
            "workflow_id": workflow_id,
            "run_id": handle.run_id,
            "url": connections.link(workflow_id, handle.run_id),
            "started": started,
            **dict.fromkeys(COUNTS),
        }
        stands = "has started." if started else "is running already."
        text = sentence(whole(workflow_id), stands)
        if not wait:
            return Answer(document, lines(text, address(document["url"])))
        if not quiet:
            say_where(workflow_id, stands, document["url"])
        await warn_without_worker(connections.client, job.queue)
        try:
            if quiet or not err.is_terminal:
                result = await handle.result()
            else:
                result = await follow(connections.database, job.name, tick, handle)
        except WorkflowFailureError as error:
            return Answer(document, lines(address(document["url"])), problem_of(error))
        return _counted(document, result)


def as_scheduled(job: Job, tick: str) -> FanOutInput:
    """Returns the input of a tick's fan-out: as in the job's schedule, without its times."""
    declared = {schedule.job: schedule for schedule in current_application().every_schedule}.get(
        job.name
    )
    request = declared.fan_out if declared is not None else FanOutInput(job=job.name)
    return request.model_copy(update={"tick": tick})


def narrowed(request: FanOutInput, statuses: Sequence[TenantStatus]) -> FanOutInput:
    """Returns the request for tenants with these statuses only."""
    usual = list(TenantStatus) if request.statuses is None else request.statuses
    left_out = set(usual) - set(statuses) - {TenantStatus.DELETED}
    return request.model_copy(update={"statuses": list(statuses), "is_part": bool(left_out)})


def local_cron(job: Job) -> str | None:
    """Returns the cron line of the job's schedule if it is in the tenants' local time."""
    for scheduled in current_application().every_schedule:
        if scheduled.job == job.name and scheduled.local_time:
            return scheduled.cron
    return None


def workflow_id_of(job: Job, tick: str) -> str:
    """Returns the id of a fan-out that a person starts."""
    return str(WorkflowId(PLATFORM, job.name, f"tick-{tick}"))


class _Chosen(BaseModel):
    """What a person chooses of a fan-out's input; the rest comes from the schedule."""

    extra: dict[str, Any] = {}
    statuses: list[TenantStatus] | None = None


async def start(connections: Servers, job: Job, request: FanOutInput) -> tuple[Handle, bool]:
    """Returns the run, and whether this call started it. A tick that has ended may run again.

    Raises `KeyReused` if the tick is running for other tenants, or with another input.
    """
    workflow_id = workflow_id_of(job, str(request.tick))
    try:
        new_run = await connections.client.start_workflow(
            FanOut.run,
            request,
            id=workflow_id,
            task_queue=job.queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        run_id, started = new_run.first_execution_run_id, True
    except WorkflowAlreadyStartedError:
        run, given = await own_run_and_input(connections.client, workflow_id, FAN_OUT)
        chosen = _Chosen(extra=request.extra, statuses=request.statuses)
        require_same_input(run, chosen, given, otherwise="Wait until that run has ended.")
        run_id, started = run.run_id, False
    handle: Handle = connections.client.get_workflow_handle(
        workflow_id, run_id=run_id, result_type=FanOutResult
    )
    return handle, started


def _counted(document: dict[str, Any], result: FanOutResult) -> Answer:
    failures = [
        {**failure.model_dump(), "reason": with_hint(failure.reason)} for failure in result.failures
    ]
    document = {
        **document,
        **{name: getattr(result, name) for name in COUNTS},
        "failures": failures,
    }
    text = (
        f"{result.job} {result.tick}: {number(result.planned, 'tenant')}, "
        f"{result.succeeded:,} succeeded, {result.failed:,} failed, {result.skipped:,} skipped, "
        f"{result.already:,} had succeeded before."
    )
    failed = table(
        ("failed", "why"), [(failure["tenant_id"], failure["reason"]) for failure in failures]
    )
    problem = Problem(
        "TenantsFailed",
        f"{result.job} {result.tick} failed for {number(result.failed, 'tenant')}. "
        f"{quoted_command('ticks', 'show', result.job, '--tick', result.tick)} names them; "
        "repeating the fan-out runs only those.",
    )
    return Answer(
        document,
        lines(text, failed if failures else None, address(document["url"])),
        problem if result.failed else None,
    )

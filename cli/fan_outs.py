"""Starting a job for every tenant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from cli import given as reading
from cli.answers import Answer, Problem, err, lines, number, say, table
from cli.progress import follow
from cli.servers import Servers, servers
from cli.workers import has_worker, no_worker
from temporal_tenancy.fan_out import FanOut, FanOutInput, FanOutResult, tick_of
from temporal_tenancy.fan_out.outcomes import root_cause, sentence_of, type_of
from temporal_tenancy.fan_out.workflows import child_input
from temporal_tenancy.identifiers import PLATFORM, WorkflowId

COUNTS = ("planned", "succeeded", "failed", "skipped", "already")

Handle = WorkflowHandle[FanOut, FanOutResult]


async def fan_out(
    job_name: str,
    *,
    tick: str | None,
    where: str | None,
    given: str | None,
    wait: bool,
    quiet: bool,
) -> Answer:
    """Starts a tick, or joins the run of it that is under way.

    Raises:
        TenancyError: the tick or the input does not fit the job; nothing has been started.
    """
    job = reading.tenant_job(job_name)
    tick = tick or tick_of(job, datetime.now(UTC))
    extra = reading.fields(given, what=f"the input of {job.name}")
    child_input(job, "a", tick, extra)  # what fits no tenant is refused here
    statuses = reading.where(where)
    request = FanOutInput(
        job=job.name,
        tick=tick,
        extra=extra,
        statuses=None if statuses is None else list(statuses),
    )
    workflow_id = str(WorkflowId(PLATFORM, job.name, f"tick-{tick}"))
    async with servers() as there:
        handle, started = await _start(there, request, workflow_id, queue=job.queue)
        document: dict[str, Any] = {
            "job": job.name,
            "tick": tick,
            "workflow_id": workflow_id,
            "run_id": handle.run_id,
            "url": there.link(workflow_id, handle.run_id),
            "started": started,
            **dict.fromkeys(COUNTS),
        }
        text = f"{workflow_id} {'has started' if started else 'is running already'}."
        if not wait:
            return Answer(document, lines(text, document["url"]))
        if not await has_worker(there.client, job.queue):
            say(f"Waiting: {no_worker(job.queue)}")
        try:
            if quiet or not err.is_terminal:
                result = await handle.result()
            else:
                result = await follow(there.database, job.name, tick, handle)
        except WorkflowFailureError as error:
            cause = root_cause(error.cause)
            kind = type_of(cause)
            problem = Problem(kind, sentence_of(cause).removeprefix(f"{kind}: "))
            return Answer(document, lines(text, document["url"]), problem)
        return _counted(document, result)


async def _start(
    there: Servers, request: FanOutInput, workflow_id: str, *, queue: str
) -> tuple[Handle, bool]:
    """The run, and whether it was started now. A tick that has ended may run again."""
    try:
        started = await there.client.start_workflow(
            FanOut.run,
            request,
            id=workflow_id,
            task_queue=queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        run_id = started.first_execution_run_id
    except WorkflowAlreadyStartedError as error:
        run_id = error.run_id
    handle = there.client.get_workflow_handle_for(FanOut.run, workflow_id, run_id=run_id)
    return handle, run_id is not None

"""Starts one tenant's job."""

from __future__ import annotations

from typing import Any, Final

from rich.console import RenderableType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._behind import behind
from temporal_tenancy.cli._fairness import warn_where_off
from temporal_tenancy.cli._following import Handle, result_of, waiting_for, where_failed
from temporal_tenancy.cli._periods import refuse_unfinished
from temporal_tenancy.cli._server_access import Servers, directory_of, servers
from temporal_tenancy.cli._waiting import problem_of, warn_without_worker
from temporal_tenancy.cli.answers import (
    Answer,
    address,
    facts,
    json_text,
    lines,
    say,
    sentence,
    whole,
)
from temporal_tenancy.cli.program import message_with_hint
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import TenantInput, read_input
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.tenant_state import refusal, require_startable
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import (
    input_of,
    own_run_and_input,
    require_same_input,
    started_event,
)


async def run(
    job_name: str,
    *,
    tenant: str | None,
    input_json: str | None,
    key: str | None,
    wait: bool,
    quiet: bool,
) -> Answer:
    """Starts a job of `tenant`, unless a run with its id has succeeded or is running.

    Raises:
        TenancyError: the input does not fit, the tenant may not run the job, another workflow uses
            its id, or an earlier run has its key and another input; nothing was started.
    """
    job = arguments.tenant_job(job_name)
    job_input, parsed_id = _prepared(job, tenant=tenant, input_json=input_json, key=key)
    workflow_id = str(parsed_id)
    async with servers() as connections:
        tenant_id = job_input.tenant_id
        record = await directory_of(connections.database).find(tenant_id)
        known = require_startable(tenant_id, record, job)
        reason = refusal(known, job) or behind(known, job)
        refuse_unfinished(job, job_input, record)
        await warn_where_off(connections.database, connections.client.namespace)
        handle, state = await _start(connections, job, job_input, workflow_id)
        document: dict[str, Any] = {
            "workflow_id": workflow_id,
            "run_id": handle.run_id,
            "url": connections.link(workflow_id, handle.run_id),
            "started": state == "started",
        }
        text = sentence(whole(workflow_id), _SAYS[state])
        if reason is not None and state != "succeeded":
            say(f"It waits: {message_with_hint(reason.type or '', reason.message)}")
        if not wait:
            return Answer(document, lines(text, address(document["url"])))
        with waiting_for(workflow_id, _SAYS[state], document["url"], quiet=quiet):
            if state != "succeeded":
                await warn_without_worker(connections.client, job.queue)
            try:
                result = await if_known(result_of(connections.client, handle, quiet=quiet))
            except WorkflowFailureError as error:
                problem = problem_of(error)
                return Answer(document, lines(where_failed(document["url"], problem)), problem)
        document["result"] = result
        return Answer(document, lines(_shown(result)))


_SAYS = {
    "started": "has started.",
    "running": "is running already.",
    "succeeded": "has already succeeded, and does not run again.",
}


_OTHERWISE: Final = "Use another key, or leave the input as it was."


def _prepared(
    job: Job, *, tenant: str | None, input_json: str | None, key: str | None
) -> tuple[TenantInput, WorkflowId]:
    """Returns a run's input and workflow id, after the checks that need no server."""
    what = f"the input of {job.name}"
    values = arguments.input_fields(input_json, what=what)
    values["tenant_id"] = arguments.owner(tenant, values, what=what)
    if key is not None:
        WorkflowId(values["tenant_id"], job.name, key)  # raises for a key that is not valid
    values = job.with_period(values, key)
    model = job.input_model
    assert issubclass(model, TenantInput)
    job_input = read_input(model, values, what=what)
    key = job.key_of(job_input, key)
    if key is None:
        key = arguments.uuid7()
    return job_input, WorkflowId(job_input.tenant_id, job.name, key)


async def _start(
    connections: Servers, job: Job, job_input: TenantInput, workflow_id: str
) -> tuple[Handle, str]:
    """Returns the run and its state: `started` by this call, `running` or `succeeded`."""
    if job.period is not None:
        async with connections.database.platform_session("look up a run") as session:
            row = await ledger.row_of_workflow(session, workflow_id)
        # The server forgets closed runs; the ledger does not.
        if row is not None and row.state == LedgerState.SUCCEEDED:
            run_id = row.run_id
            await _require_same_input(connections, job_input, workflow_id, run_id)
            return connections.client.get_workflow_handle(workflow_id, run_id=run_id), "succeeded"
    try:
        started: Handle = await connections.client.start_workflow(
            job.name,
            job_input,
            id=workflow_id,
            task_queue=job.queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
    except WorkflowAlreadyStartedError:
        described, given = await own_run_and_input(connections.client, workflow_id, job.name)
        require_same_input(described, job_input, given, otherwise=_OTHERWISE)
        existing = connections.client.get_workflow_handle(workflow_id, run_id=described.run_id)
        done = described.status is WorkflowExecutionStatus.COMPLETED
        return existing, "succeeded" if done else "running"
    run_id = started.first_execution_run_id
    return connections.client.get_workflow_handle(workflow_id, run_id=run_id), "started"


async def _require_same_input(
    connections: Servers, job_input: TenantInput, workflow_id: str, run_id: str | None
) -> None:
    """Raises `KeyReused` if the server still has a run that succeeded, with another input."""
    handle = connections.client.get_workflow_handle(workflow_id, run_id=run_id)
    described = await if_known(handle.describe())
    if described is None:
        return
    started = await if_known(started_event(connections.client, workflow_id, described.run_id))
    if started is not None:
        given = await input_of(connections.client, workflow_id, started)
        require_same_input(described, job_input, given, otherwise=_OTHERWISE)


def _shown(result: Any) -> RenderableType | None:  # JSON
    if isinstance(result, dict):
        return facts((name, json_text(value)) for name, value in result.items())
    return json_text(result)

"""Checks of whether the run under a workflow id is the one that the id stands for.

That an id is taken does not prove that its job was started: anyone in the namespace can take one.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.errors import TenancyError, TenantMismatch
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope
from temporal_tenancy.sdk import agreement
from temporal_tenancy.sdk.lookups import if_known

RPC_TIMEOUT: Final = timedelta(seconds=10)
SHOWN_CHARACTERS: Final = 100  # of a name that others chose


class WorkflowIdTaken(TenancyError):
    """Another run has taken the id of this job's workflow."""


class KeyReused(TenancyError):
    """An earlier run of the job has used this key, with another input."""


def taken(workflow_id: str, why: str) -> WorkflowIdTaken:
    """Returns the error for a workflow id; `why` names what has it, as `disagreement()` does."""
    return WorkflowIdTaken(
        f'"{workflow_id}" is taken by {why}, so the job was not started. End that run, delete it '
        f'("temporal workflow delete --workflow-id {workflow_id}"), and start the job again.'
    )


async def own_run(
    client: Client, workflow_id: str, workflow_type: str
) -> WorkflowExecutionDescription:
    """Returns the latest run under a workflow id, if it is of this type and of the id's owner.

    It may have been started in any way, also by hand or from the Web UI.

    Raises:
        WorkflowIdTaken: the run is another one, or its start is refused.
        RPCError: there is no run (NOT_FOUND), or the server does not answer.
    """
    run, _ = await own_run_and_input(client, workflow_id, workflow_type)
    return run


async def own_run_and_input(
    client: Client, workflow_id: str, workflow_type: str
) -> tuple[WorkflowExecutionDescription, Any]:
    """Returns the latest run under a workflow id as `own_run` does, and its input as JSON."""
    run = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_TIMEOUT)
    why, job_input = disagreement(run, workflow_type), None
    if why is None:
        started = await started_event(client, workflow_id, run.run_id)
        job_input = await input_of(client, workflow_id, started)
        why = _wrong_start(run, started, job_input)
    if why is not None:
        raise taken(workflow_id, why)
    return run, job_input


def require_same_input(
    run: WorkflowExecution, request: BaseModel, job_input: Any, *, otherwise: str
) -> None:
    """Raises `KeyReused` if a run was started with another input than a request has.

    Both are compared as the job's current model reads them, without fields that it does not know.

    Args:
        run: the run that has the request's workflow id.
        request: the request's input, as the job's model.
        job_input: the run's input, as JSON.
        otherwise: a sentence that says what to do instead.
    """
    if not is_same_input(request, job_input):
        raise KeyReused(
            f'"{run.id}" was used by run {run.run_id} on {run.start_time:%Y-%m-%d at %H:%M:%S} '
            f"UTC, with another input, so nothing was started for this request. {otherwise}"
        )


def is_same_input(request: BaseModel, job_input: Any) -> bool:
    """Returns whether an input, as JSON, is that of a request; see `require_same_input`."""
    try:
        ours = json.loads(request.model_dump_json())
        if ours == job_input:
            return True
        ours, theirs = (
            type(request).model_validate_json(json.dumps(values), extra="ignore")
            for values in (ours, job_input)
        )
    except Exception:  # a job's own model may raise anything
        return False
    return bool(ours == theirs)


def disagreement(run: WorkflowExecution, *workflow_types: str) -> str | None:
    """Says what the run is, if it is not the one that its id stands for; None if it is.

    It judges by the run's description, which has neither input nor header.

    Args:
        run: the run, as described or listed.
        workflow_types: the types that a run of this id may have.

    Raises:
        TenantMismatch: the run's id is not `{owner}/{job}/{key}`.
    """
    parts = WorkflowId.parse(run.id)
    if run.workflow_type not in workflow_types:
        return f'a run of "{_shown(run.workflow_type)}"'
    if run.parent_id is not None and _is_foreign(run.parent_id, parts):
        return f'a run that "{_shown(run.parent_id)}" has started'
    try:
        agreement.check_search_attributes(
            run.typed_search_attributes, _scope_of(parts), parts.job, what="it"
        )
    except TenantMismatch:
        return "a run whose search attributes name another tenant or job"
    return None


async def started_event(
    client: Client, workflow_id: str, run_id: str
) -> WorkflowExecutionStartedEventAttributes:
    """Returns the event that started a run.

    Raises:
        RPCError: the server no longer has the history (NOT_FOUND), or does not answer.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    async for event in handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT):
        return event.workflow_execution_started_event_attributes
    raise RPCError("the run has no history", RPCStatusCode.NOT_FOUND, b"")


async def input_of(
    client: Client, workflow_id: str, started: WorkflowExecutionStartedEventAttributes
) -> Any:  # JSON
    """Returns the input of a run; None if it is not exactly one value, or cannot be decoded."""
    converter = client.data_converter.with_context(
        WorkflowSerializationContext(client.namespace, workflow_id)
    )
    try:
        values = await converter.decode(started.input.payloads)
    except Exception:  # any code may have written the payload, so any error is possible
        return None
    return values[0] if len(values) == 1 else None


async def period_disagreement(
    client: Client, run: WorkflowExecutionDescription, job: Job | None
) -> str | None:
    """Says that a run is for another period than its key, as `disagreement` does; None if not.

    Earlier releases accepted such a start.

    Args:
        client: to look up the run's input.
        run: a run of `job`, for which `disagreement` found nothing.
        job: None for one that this release does not have, whose runs cannot be judged.

    Raises:
        RPCError: the server does not answer.
    """
    key = WorkflowId.parse(run.id).key
    if job is None or job.period is None or not job.period.is_key(key):
        return None
    started = await if_known(started_event(client, run.id, run.run_id))
    job_input = None if started is None else await input_of(client, run.id, started)
    values = job_input if isinstance(job_input, dict) else {}
    period = job.another_period(key, values.get("period"))
    return None if period is None else f'a run for the period "{_shown(period)}"'


def _wrong_start(
    run: WorkflowExecution, started: WorkflowExecutionStartedEventAttributes, job_input: Any
) -> str | None:
    """Says why the guard refuses a run of the right type; None if it does not."""
    parts = WorkflowId.parse(run.id)
    try:
        agreement.check_header(started.header.fields, _scope_of(parts), what="it")
    except TenantMismatch:
        return "a run whose header names another tenant"
    if parts.tenant is not None and _tenant_in(job_input) != parts.tenant:
        return "a run whose input names another tenant, or none"
    return None


def _scope_of(parts: WorkflowId) -> Scope:
    return TenantScope(parts.tenant) if parts.tenant else PlatformScope("look at a run")


def _is_foreign(parent_id: str, own: WorkflowId) -> bool:
    """Whether the parent is a tenant's, and the child is not that tenant's."""
    try:
        owner = WorkflowId.parse(parent_id).owner
    except TenancyError:
        return False  # a workflow outside tenancy, exempted by name
    return owner not in (PLATFORM, own.owner)


def _tenant_in(job_input: Any) -> Any:  # JSON
    return job_input.get("tenant_id") if isinstance(job_input, dict) else None


def _shown(text: str) -> str:
    """Returns a name that others chose so that it is safe between quotes, also on a terminal."""
    safe = "".join(char if char.isprintable() and char != '"' else "?" for char in text)
    return safe if len(safe) <= SHOWN_CHARACTERS else f"{safe[:SHOWN_CHARACTERS]}…"

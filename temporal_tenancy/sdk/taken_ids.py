"""Whether what is there under a workflow id is what the id is for.

That an id is taken does not say that its job was started: anyone in the namespace may have taken
it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.errors import TenancyError, TenantMismatch
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope
from temporal_tenancy.sdk import agreement

RPC_TIMEOUT: Final = timedelta(seconds=10)
SHOWN_CHARACTERS: Final = 100  # of what others have named


class WorkflowIdTaken(TenancyError):
    """Something else has the id of this job's workflow."""


def taken(workflow_id: str, why: str) -> WorkflowIdTaken:
    """The error that says what has a workflow id, as `disagreement()` does."""
    return WorkflowIdTaken(
        f'"{workflow_id}" is taken by {why}, so the job was not started. End that and delete it '
        f'("temporal workflow delete --workflow-id {workflow_id}"), and start the job again.'
    )


async def own_run(
    client: Client, workflow_id: str, workflow_type: str
) -> WorkflowExecutionDescription:
    """The latest run under a workflow id, which is of this type and its owner's.

    However it was started: a run by hand or from the Web UI is its owner's as well.

    Raises:
        WorkflowIdTaken: it is something else, or a start that is refused.
        RPCError: NOT_FOUND where there is none.
    """
    run = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_TIMEOUT)
    why = disagreement(run, workflow_type) or await _wrong_start(client, run)
    if why is not None:
        raise taken(workflow_id, why)
    return run


def disagreement(run: WorkflowExecution, *workflow_types: str) -> str | None:
    """What has a run's id in the place of a run of one of these types; None: it is such a run.

    As far as its description says, which has neither input nor header.
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
    """How a run was started; raises `RPCError` (NOT_FOUND) where the server no longer has it."""
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    async for event in handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT):
        return event.workflow_execution_started_event_attributes
    raise RPCError("the run has no history", RPCStatusCode.NOT_FOUND, b"")


async def input_of(
    client: Client, workflow_id: str, started: WorkflowExecutionStartedEventAttributes
) -> Any:  # JSON
    """What a run was started with; None where it is no one value, or cannot be read."""
    converter = client.data_converter.with_context(
        WorkflowSerializationContext(client.namespace, workflow_id)
    )
    try:
        values = await converter.decode(started.input.payloads)
    except Exception:  # whatever a converter or a codec raises: of others' making
        return None
    return values[0] if len(values) == 1 else None


async def _wrong_start(client: Client, run: WorkflowExecutionDescription) -> str | None:
    """Says of a run of the right type what the guard has refused it for, or is going to."""
    parts = WorkflowId.parse(run.id)
    started = await started_event(client, run.id, run.run_id)
    try:
        agreement.check_header(started.header.fields, _scope_of(parts), what="it")
    except TenantMismatch:
        return "a run whose header names another tenant"
    given = await input_of(client, run.id, started)
    if parts.tenant is not None and _tenant_in(given) != parts.tenant:
        return "a run whose input names another tenant, or none"
    return None


def _scope_of(parts: WorkflowId) -> Scope:
    return TenantScope(parts.tenant) if parts.tenant else PlatformScope("look at a run")


def _is_foreign(parent_id: str, own: WorkflowId) -> bool:
    """Whether a parent is another tenant's, or a tenant's and the child the platform's."""
    try:
        owner = WorkflowId.parse(parent_id).owner
    except TenancyError:
        return False  # a workflow outside tenancy, exempted by name
    return owner not in (PLATFORM, own.owner)


def _tenant_in(given: Any) -> Any:  # JSON
    return given.get("tenant_id") if isinstance(given, dict) else None


def _shown(text: str) -> str:
    """A text of others as it can stand between quotes, on a terminal too."""
    plain = "".join(each if each.isprintable() and each != '"' else "?" for each in text)
    return plain if len(plain) <= SHOWN_CHARACTERS else f"{plain[:SHOWN_CHARACTERS]}…"

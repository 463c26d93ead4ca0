"""What the server knows of a tenant's child workflow."""

from __future__ import annotations

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.control_plane.models import LedgerState
from temporal_tenancy.fan_out.models import Outcome
from temporal_tenancy.fan_out.outcomes import outcome_of_failure


async def state_of_child(client: Client, tenant_id: str, workflow_id: str) -> Outcome | None:
    """What has become of the child's latest run; None: the server knows none, perhaps no longer."""
    handle = client.get_workflow_handle(workflow_id)
    try:
        described = await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    status, run_id = described.status, described.run_id
    if status is WorkflowExecutionStatus.RUNNING:
        state = LedgerState.RUNNING
    elif status is WorkflowExecutionStatus.COMPLETED:
        state = LedgerState.SUCCEEDED
    else:
        try:
            # Undecoded: it may be none that can be read.
            await client.get_workflow_handle(
                workflow_id, run_id=run_id, result_type=RawValue
            ).result()
        except WorkflowFailureError as error:
            return outcome_of_failure(
                tenant_id, error.cause, workflow_id=workflow_id, run_id=run_id
            )
        state = LedgerState.SUCCEEDED  # it was begun again meanwhile, and has succeeded
    return Outcome(tenant_id=tenant_id, state=state, workflow_id=workflow_id, run_id=run_id)


async def is_running(client: Client, workflow_id: str) -> bool:
    """Whether a workflow's latest run is open."""
    return await status_of_run(client, workflow_id) is WorkflowExecutionStatus.RUNNING


async def status_of_run(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """The status of a workflow's latest run; None: the server knows none."""
    try:
        return (await client.get_workflow_handle(workflow_id).describe()).status
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise

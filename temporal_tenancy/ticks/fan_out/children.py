"""Reads the state of child workflows and fan-outs from the server."""

from __future__ import annotations

from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue

from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement, taken
from temporal_tenancy.ticks.fan_out._outcomes import outcome_of_failure
from temporal_tenancy.ticks.fan_out.payloads import TenantOutcome

FAN_OUT: Final = "fan_out.tick"  # the workflow type


async def state_of_child(client: Client, tenant_id: str, workflow_id: str) -> TenantOutcome | None:
    """Returns the outcome of a child's latest run.

    If something else uses the child's workflow id, the outcome is a failure with the error type
    `WorkflowIdTaken`.

    Returns:
        The outcome, or None if the server has no such run, or no longer has it.

    Raises:
        RPCError: the server does not answer.
    """
    described = await if_known(client.get_workflow_handle(workflow_id).describe())
    if described is None:
        return None
    why = disagreement(described, WorkflowId.parse(workflow_id).job)
    if why is not None:
        return outcome_of_failure(
            tenant_id, taken(workflow_id, why), workflow_id=workflow_id, run_id=None
        )
    status, run_id = described.status, described.run_id
    if status is WorkflowExecutionStatus.RUNNING:
        state = LedgerState.RUNNING
    elif status is WorkflowExecutionStatus.COMPLETED:
        state = LedgerState.SUCCEEDED
    else:
        try:
            # Not decoded, because the result may be unreadable.
            await client.get_workflow_handle(
                workflow_id, run_id=run_id, result_type=RawValue
            ).result()
        except WorkflowFailureError as error:
            return outcome_of_failure(
                tenant_id, error.cause, workflow_id=workflow_id, run_id=run_id
            )
        state = LedgerState.SUCCEEDED  # it was started again meanwhile and has succeeded
    return TenantOutcome(tenant_id=tenant_id, state=state, workflow_id=workflow_id, run_id=run_id)


async def is_running(client: Client, workflow_id: str) -> bool:
    """Whether a fan-out's latest run is open; raises `RPCError` if the server does not answer."""
    return await status_of_run(client, workflow_id) is WorkflowExecutionStatus.RUNNING


async def status_of_run(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """Returns the status of a fan-out's latest run, or None if the server has none.

    Raises:
        RPCError: the server does not answer.
    """
    run = await if_known(client.get_workflow_handle(workflow_id).describe())
    return None if run is None or disagreement(run, FAN_OUT) is not None else run.status

"""What the server knows of a tenant's child workflow."""

from __future__ import annotations

from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue

from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement, taken
from temporal_tenancy.ticks.fan_out.outcomes import outcome_of_failure
from temporal_tenancy.ticks.fan_out.payloads import TenantOutcome

FAN_OUT: Final = "fan_out.tick"  # the workflow type


async def state_of_child(client: Client, tenant_id: str, workflow_id: str) -> TenantOutcome | None:
    """What has become of the child's latest run; None: the server knows none, perhaps no longer.

    Where something else has its id, it has failed.
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
            # Undecoded: it may be none that can be read.
            await client.get_workflow_handle(
                workflow_id, run_id=run_id, result_type=RawValue
            ).result()
        except WorkflowFailureError as error:
            return outcome_of_failure(
                tenant_id, error.cause, workflow_id=workflow_id, run_id=run_id
            )
        state = LedgerState.SUCCEEDED  # it was begun again meanwhile, and has succeeded
    return TenantOutcome(tenant_id=tenant_id, state=state, workflow_id=workflow_id, run_id=run_id)


async def is_running(client: Client, workflow_id: str) -> bool:
    """Whether a fan-out's latest run is open."""
    return await status_of_run(client, workflow_id) is WorkflowExecutionStatus.RUNNING


async def status_of_run(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """The status of a fan-out's latest run; None: the server knows none."""
    run = await if_known(client.get_workflow_handle(workflow_id).describe())
    return None if run is None or disagreement(run, FAN_OUT) is not None else run.status

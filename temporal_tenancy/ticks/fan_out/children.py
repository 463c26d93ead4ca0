"""Child workflows: their input, and their state on the server, like that of fan-outs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue

from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.errors import InvalidPayload, UnknownJob
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import TenantInput, internal_fields, read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement, period_disagreement, taken
from temporal_tenancy.ticks.fan_out._outcomes import outcome_of_failure
from temporal_tenancy.ticks.fan_out.payloads import TenantOutcome

FAN_OUT: Final = "fan_out.tick"  # the workflow type


def child_input(job: Job, tenant_id: str, tick: str, extra: dict[str, Any]) -> TenantInput:
    """Builds the input of one tenant's child.

    Args:
        job: a tenant job.
        tenant_id: of the tenant.
        tick: the input's `period`, if the job has one.
        extra: more fields of the input.

    Raises:
        UnknownJob: `job` is not a tenant job.
        TenantInvalid: `tenant_id` is malformed.
        InvalidPayload: the fields do not fit the job's input.
    """
    model = job.input_model
    if not issubclass(model, TenantInput):
        raise UnknownJob(f"{job.name} is not a tenant job, so it cannot be fanned out.")
    period = {"period": tick} if job.period is not None else {}
    what = f"the input of {job.name}"
    return read_input(model, {**extra, **period, "tenant_id": tenant_id}, what=what)


def require_shared(job: Job, extra: Mapping[str, Any]) -> None:
    """Raises `InvalidPayload` for more fields of a fan-out that are not the same for each tenant.

    These are the fields that the fan-out sets itself. It would replace their values, and so run the
    job for every tenant where one was named. Doors call it, and the activity that plans: a
    workflow that began before must go on.

    Args:
        job: a tenant job.
        extra: the fields that its tenants' inputs share.
    """
    if "tenant_id" in extra:
        raise InvalidPayload(
            f"the input of {job.name} names a tenant, but a fan-out runs the job for every tenant. "
            "Start the job for that tenant alone, or leave tenant_id out."
        )
    if job.period is not None and "period" in extra:
        raise InvalidPayload(
            f"the input of {job.name} has a period, which a fan-out takes from its tick. Leave "
            "period out, and name the tick."
        )
    if internal := sorted(internal_fields(job.input_model) & set(extra)):
        raise InvalidPayload(
            f"the input of {job.name} has a field that only its own runs set: {internal[0]}."
        )


async def state_of_child(client: Client, tenant_id: str, workflow_id: str) -> TenantOutcome | None:
    """Returns the outcome of a child's latest run.

    If something else uses the child's workflow id, or a run for another period, the outcome is a
    failure with the error type `WorkflowIdTaken`.

    Returns:
        The outcome, or None if the server has no such run, or no longer has it.

    Raises:
        RPCError: the server does not answer.
    """
    described = await if_known(client.get_workflow_handle(workflow_id).describe())
    if described is None:
        return None
    name = WorkflowId.parse(workflow_id).job
    why = disagreement(described, name)
    if why is None:
        why = await period_disagreement(client, described, registry.get(name))
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

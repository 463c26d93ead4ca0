"""The interceptor of what leaves a workflow: each hop carries its scope and stays in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.worker import (
    ContinueAsNewInput,
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    StartNexusOperationInput,
    WorkflowOutboundInterceptor,
)

from temporal_tenancy.core.activities import named_tenant
from temporal_tenancy.core.errors import HopRefused, InvalidPayload, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import JobInput, read_input, tenants_named
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import Scope, TenantScope
from temporal_tenancy.sdk import agreement, header
from temporal_tenancy.sdk.stamps import Stamp, fair

MAXIMUM_ATTEMPTS: Final = 10  # of an activity whose retries have no other limit


class TenancyWorkflowOutbound(WorkflowOutboundInterceptor):
    """Puts the scope of a run on what it starts and sends, and refuses what would leave it."""

    def __init__(
        self, next: WorkflowOutboundInterceptor, scope: Scope, workflow_id: WorkflowId
    ) -> None:
        super().__init__(next)
        self.scope = scope
        self.id = workflow_id

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        scope = self._scope_of_activity(input)
        input.headers = header.write(input.headers, scope)
        # An activity inherits its workflow's fairness key, but a workflow whose start bypassed our
        # client has none, and a platform workflow may be entering a tenant.
        if input.priority != Priority.default or (
            workflow.info().priority.fairness_key != scope.owner
        ):
            input.priority = fair(input.priority, scope, caller=self.scope)
        input.retry_policy = _limited_retries(input)
        return self.next.start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = header.write(input.headers, self._scope_of_activity(input))
        input.retry_policy = _limited_retries(input)
        return self.next.start_local_activity(input)

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        job = registry.get(input.workflow)
        if job is None:
            # A job of a newer release, or exempted by name on its worker. It still cannot leave
            # the tenant, because its header names the owner.
            self._refuse_foreign(input.args, f"child workflow {input.workflow}")
            named = named_tenant(input.args)
            scope: Scope = self.scope if named is None else TenantScope(named)
            if "/" not in input.id:
                input.id = str(WorkflowId(scope.owner, input.workflow, input.id))
            if input.priority != Priority.default:
                input.priority = fair(input.priority, scope, caller=self.scope)
            input.headers = header.write(input.headers, scope)
        else:
            self._stamp_of_child(job, input).put_on(input, caller=self.scope)
        return await self.next.start_child_workflow(input)

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        agreement.check_same_owner(self.scope, input.child_workflow_id, what="signal")
        input.headers = header.write(input.headers, self.scope)
        return await self.next.signal_child_workflow(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        agreement.check_same_owner(self.scope, input.workflow_id, what="signal")
        input.headers = header.write(input.headers, self.scope)
        return await self.next.signal_external_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        info = workflow.info()
        name = input.workflow or info.workflow_type
        job = registry.get(name)
        if job is not None and job.takes_input:
            # The id stays, so the next run must be of the same tenant and job.
            Stamp.of(job, _only_input(job, input.args), info.workflow_id)
        input.headers = header.write(input.headers, self.scope)
        self.next.continue_as_new(input)

    async def start_nexus_operation(
        self, input: StartNexusOperationInput[Any, Any]
    ) -> workflow.NexusOperationHandle[Any]:
        raise HopRefused(
            f"{self.id.job} calls the Nexus operation {input.operation_name}, and tenancy is not "
            "carried over Nexus. Call it from an activity, or start a child workflow."
        )

    async def start_system_nexus_operation(
        self, input: StartNexusOperationInput[Any, Any]
    ) -> workflow.NexusOperationHandle[Any]:
        raise HopRefused(
            f"{self.id.job} calls Temporal's own Nexus operation {input.operation_name}, and "
            "tenancy is not carried over it. Use the client in an activity instead."
        )

    async def start_signal_with_start_workflow(self, request: Any) -> Any:
        # The type of the request is private in the SDK.
        raise HopRefused(
            f"{self.id.job} calls signal-with-start from workflow code, which goes over Nexus, and "
            "tenancy is not carried over it. Use the client in an activity instead."
        )

    def _scope_of_activity(self, input: StartActivityInput | StartLocalActivityInput) -> Scope:
        self._refuse_foreign(input.args, f"activity {input.activity}")
        named = named_tenant(input.args)
        return self.scope if named is None else TenantScope(named)

    def _stamp_of_child(self, job: Job, input: StartChildWorkflowInput) -> Stamp:
        if isinstance(self.scope, TenantScope) and job.kind == "platform":
            raise TenantMismatch(
                f"{self.id.job} runs for {self.scope.tenant_id} and cannot start {job.name}, "
                "which is the platform's."
            )
        self._refuse_foreign(input.args, f"child workflow {job.name}")
        job_input = _only_input(job, input.args) if job.takes_input else job.input_model()
        scope = agreement.scope_of(job, job_input)
        if isinstance(self.scope, TenantScope) and scope != self.scope:
            raise TenantMismatch(
                f"{self.id.job} runs for {self.scope.tenant_id} and cannot start {job.name} "
                f"for {scope.owner}."
            )
        if "/" not in input.id:  # the SDK's random id, or a key: complete it
            name = job_input.job if isinstance(job_input, JobInput) else job.name
            input.id = str(WorkflowId(scope.owner, name, input.id))
        return Stamp.of(job, job_input, input.id)

    def _refuse_foreign(self, args: Sequence[Any], what: str) -> None:
        if not isinstance(self.scope, TenantScope):
            return
        others = tenants_named(list(args)) - {self.scope.tenant_id}
        if others:
            raise TenantMismatch(
                f"{self.id.job} runs for {self.scope.tenant_id}, but the input of {what} "
                f"says {', '.join(sorted(map(str, others)))}."
            )


def _only_input(job: Job, args: Sequence[Any]) -> Any:
    if len(args) != 1:
        raise InvalidPayload(f"{job.name} takes one input, not {len(args)}.")
    value = args[0]
    if isinstance(value, job.input_model):
        return value
    # The sandbox imports a workflow's module again, so a model of it is another class there.
    if isinstance(value, BaseModel):
        value = value.model_dump()
    return read_input(job.input_model, value, what=f"the input of {job.name}")


def _limited_retries(input: StartActivityInput | StartLocalActivityInput) -> RetryPolicy | None:
    policy = input.retry_policy
    if input.schedule_to_close_timeout is not None or (policy and policy.maximum_attempts):
        return policy
    return dataclasses.replace(policy or RetryPolicy(), maximum_attempts=MAXIMUM_ATTEMPTS)

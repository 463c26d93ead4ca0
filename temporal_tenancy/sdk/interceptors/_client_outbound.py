"""The interceptor of client calls: starts and messages carry their scope and stay in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pydantic import BaseModel
from temporalio import client
from temporalio.api.common.v1 import Payload
from temporalio.common import PinnedVersioningOverride, VersioningOverride
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.core.errors import (
    HopRefused,
    InvalidPayload,
    TenancyError,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.observations import Refused, observe
from temporal_tenancy.core.scope import Scope, TenantScope, current_scope
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.sdk import agreement, header
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.interceptors._schedules import restamping, stamp_schedule
from temporal_tenancy.sdk.list_filter import narrowed
from temporal_tenancy.sdk.stamps import Stamp, fair

log: Final = logging.getLogger(__name__)

AnyStart = client.StartWorkflowInput | client.UpdateWithStartStartWorkflowInput


class TenancyClientOutbound(client.OutboundInterceptor):
    """Stamps and checks every call of a client.

    Outside any job (in a web request, a command) and in platform work a call may name any id, and
    thereby enters its tenant. In a tenant's activity it may name only what is that tenant's.
    """

    def __init__(
        self,
        next: client.OutboundInterceptor,
        directory: TenantDirectory | None,
        features: Sequence[Feature] = (),
    ) -> None:
        super().__init__(next)
        self.directory = directory
        self.choosers = [each.version_of for each in features if each.version_of is not None]

    # Starts

    async def start_workflow(
        self, input: client.StartWorkflowInput
    ) -> client.WorkflowHandle[Any, Any]:
        named = input.versioning_override
        await self._stamp_start(input)
        # An eager start bypasses the task queue, and with it fairness.
        input.request_eager_start = False
        try:
            return await self.next.start_workflow(input)
        except RPCError as error:
            _take_back_pin(input, named, error)
            return await self.next.start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: client.StartWorkflowUpdateWithStartInput
    ) -> client.WorkflowUpdateHandle[Any]:
        start = input.start_workflow_input
        named = start.versioning_override
        stamp = await self._stamp_start(start)
        if stamp is not None:
            update = input.update_workflow_input
            update.headers = header.write(update.headers, stamp.scope)
        try:
            return await self.next.start_update_with_start_workflow(input)
        except RPCError as error:
            _take_back_pin(start, named, error)
            return await self.next.start_update_with_start_workflow(input)

    async def create_schedule(self, input: client.CreateScheduleInput) -> client.ScheduleHandle:
        self._own(input.id, "create the schedule")
        stamp_schedule(input.id, input.schedule)
        return await self.next.create_schedule(input)

    async def update_schedule(self, input: client.UpdateScheduleInput) -> None:
        self._own(input.id, "update the schedule")
        input.updater = restamping(input.id, input.updater)
        await self.next.update_schedule(input)

    # Messages

    async def signal_workflow(self, input: client.SignalWorkflowInput) -> None:
        input.headers = self._message(input.id, input.headers, f"signal {input.signal} to")
        await self.next.signal_workflow(input)

    async def query_workflow(self, input: client.QueryWorkflowInput) -> Any:
        input.headers = self._message(input.id, input.headers, f"query {input.query} of")
        return await self.next.query_workflow(input)

    async def start_workflow_update(
        self, input: client.StartWorkflowUpdateInput
    ) -> client.WorkflowUpdateHandle[Any]:
        input.headers = self._message(input.id, input.headers, f"update {input.update} of")
        return await self.next.start_workflow_update(input)

    # Calls that name a workflow

    async def cancel_workflow(self, input: client.CancelWorkflowInput) -> None:
        self._own(input.id, "cancel")
        await self.next.cancel_workflow(input)

    async def terminate_workflow(self, input: client.TerminateWorkflowInput) -> None:
        self._own(input.id, "terminate")
        await self.next.terminate_workflow(input)

    async def describe_workflow(
        self, input: client.DescribeWorkflowInput
    ) -> client.WorkflowExecutionDescription:
        self._own(input.id, "describe")
        return await self.next.describe_workflow(input)

    def fetch_workflow_history_events(
        self, input: client.FetchWorkflowHistoryEventsInput
    ) -> client.WorkflowHistoryEventAsyncIterator:
        self._own(input.id, "read the history of")
        return self.next.fetch_workflow_history_events(input)

    def list_workflows(
        self, input: client.ListWorkflowsInput
    ) -> client.WorkflowExecutionAsyncIterator:
        input.query = _narrowed(input.query)
        return self.next.list_workflows(input)

    async def count_workflows(
        self, input: client.CountWorkflowsInput
    ) -> client.WorkflowExecutionCount:
        input.query = _narrowed(input.query)
        return await self.next.count_workflows(input)

    # Calls that name an activity with asynchronous completion

    async def heartbeat_async_activity(self, input: client.HeartbeatAsyncActivityInput) -> None:
        self._own_activity(input.id_or_token)
        await self.next.heartbeat_async_activity(input)

    async def complete_async_activity(self, input: client.CompleteAsyncActivityInput) -> None:
        self._own_activity(input.id_or_token)
        await self.next.complete_async_activity(input)

    async def fail_async_activity(self, input: client.FailAsyncActivityInput) -> None:
        self._own_activity(input.id_or_token)
        await self.next.fail_async_activity(input)

    async def report_cancellation_async_activity(
        self, input: client.ReportCancellationAsyncActivityInput
    ) -> None:
        self._own_activity(input.id_or_token)
        await self.next.report_cancellation_async_activity(input)

    # Calls that name a schedule

    async def backfill_schedule(self, input: client.BackfillScheduleInput) -> None:
        self._own(input.id, "backfill the schedule")
        await self.next.backfill_schedule(input)

    async def delete_schedule(self, input: client.DeleteScheduleInput) -> None:
        self._own(input.id, "delete the schedule")
        await self.next.delete_schedule(input)

    async def describe_schedule(
        self, input: client.DescribeScheduleInput
    ) -> client.ScheduleDescription:
        self._own(input.id, "describe the schedule")
        return await self.next.describe_schedule(input)

    async def pause_schedule(self, input: client.PauseScheduleInput) -> None:
        self._own(input.id, "pause the schedule")
        await self.next.pause_schedule(input)

    async def unpause_schedule(self, input: client.UnpauseScheduleInput) -> None:
        self._own(input.id, "resume the schedule")
        await self.next.unpause_schedule(input)

    async def trigger_schedule(self, input: client.TriggerScheduleInput) -> None:
        self._own(input.id, "trigger the schedule")
        await self.next.trigger_schedule(input)

    def list_schedules(self, input: client.ListSchedulesInput) -> client.ScheduleAsyncIterator:
        _refuse_in_tenant("list schedules")
        return self.next.list_schedules(input)

    # Calls that cannot carry a tenant

    async def start_activity(self, input: client.StartActivityInput) -> client.ActivityHandle[Any]:
        raise HopRefused(
            f"{input.activity_type} would start without a workflow, and tenancy is not carried to "
            "standalone activities. Start it from a job."
        )

    async def start_nexus_operation(
        self, input: client.StartNexusOperationInput
    ) -> client.NexusOperationHandle[Any]:
        raise HopRefused(
            f"the Nexus operation {input.operation} cannot carry a tenant. Start a job instead."
        )

    async def _stamp_start(self, input: AnyStart) -> Stamp | None:
        """Checks and stamps a start of a known job; None if the job is not known here."""
        with _observing_refusals():
            return await self._stamp(input)

    async def _stamp(self, input: AnyStart) -> Stamp | None:
        current = current_scope()
        job = registry.get(input.workflow)
        if job is None:
            # A job of another release or application is left to its worker, but a tenant's code
            # starts nothing outside its tenant.
            agreement.check_same_owner(current, input.id, what="start")
            if isinstance(current, TenantScope):
                weight = await self._weight(current)
                input.priority = fair(input.priority, current, caller=current, weight=weight)
            return None
        job_input = _job_input(job, input.args)
        scope = agreement.scope_of(job, job_input)
        if isinstance(current, TenantScope) and scope != current:
            raise TenantMismatch(f"{current.tenant_id} cannot start {job.name} for {scope.owner}.")
        stamp = Stamp.of(job, job_input, input.id)
        stamp.check(input.headers, input.search_attributes, what=job.name)
        stamp.put_on(input, caller=current, weight=await self._weight(scope))
        if isinstance(scope, TenantScope) and input.versioning_override is None:
            input.versioning_override = await self._released(scope.tenant_id, input.task_queue)
        return stamp

    async def _released(self, tenant_id: str, queue: str) -> VersioningOverride | None:
        """Returns the worker version that a feature gives a tenant; its children inherit it."""
        for version_of in self.choosers:
            version = await version_of(tenant_id, queue)
            if version is not None:
                return PinnedVersioningOverride(version)
        return None

    async def _weight(self, scope: Scope) -> float | None:
        if self.directory is None or not isinstance(scope, TenantScope):
            return None
        tenant = await self.directory.find(scope.tenant_id)
        if tenant is None:
            raise unknown(scope.tenant_id)
        return tenant.plan.fairness_weight

    def _message(
        self, workflow_id: str, headers: Mapping[str, Payload], what: str
    ) -> Mapping[str, Payload]:
        scope = current_scope()
        if scope is None:
            return headers
        with _observing_refusals():
            agreement.check_same_owner(scope, workflow_id, what=f"send {what}")
        return header.write(headers, scope)

    def _own(self, workflow_id: str, what: str) -> None:
        with _observing_refusals():
            agreement.check_same_owner(current_scope(), workflow_id, what=what)

    def _own_activity(self, reference: client.AsyncActivityIDReference | bytes) -> None:
        what = "complete an activity of"
        if isinstance(reference, client.AsyncActivityIDReference):
            self._own(reference.workflow_id or "", what)
        else:
            with _observing_refusals():
                agreement.check_task_token(current_scope(), reference, what=what)


def _take_back_pin(input: AnyStart, named: VersioningOverride | None, error: RPCError) -> None:
    """Leaves out the version that a feature chose, if the server does not start a run on it.

    Raises:
        RPCError: the caller named the version, or the server refuses for another reason.
    """
    chosen = input.versioning_override
    if chosen is None or chosen is named or error.status is not RPCStatusCode.FAILED_PRECONDITION:
        raise error
    log.warning(
        "release.not_served",
        extra={"workflow_id": input.id, "queue": input.task_queue, "reason": error.message},
    )
    input.versioning_override = None


@contextmanager
def _observing_refusals() -> Iterator[None]:
    try:
        yield
    except TenancyError as error:
        observe(Refused(error.type or "", "client"))
        raise


def _job_input(job: Job, args: Any) -> BaseModel:
    what = f"the input of {job.name}"
    if not job.takes_input:
        if args:
            raise InvalidPayload(f"{job.name} takes no input.")
        return job.input_model()
    if not args:
        raise TenantMissing(f'{what} names no tenant. Add "tenant_id".')
    if len(args) != 1:
        raise InvalidPayload(f"{job.name} takes one input, not {len(args)}.")
    model = job.input_model
    return args[0] if isinstance(args[0], model) else read_input(model, args[0], what=what)


def _narrowed(query: str | None) -> str | None:
    scope = current_scope()
    return narrowed(query, scope.tenant_id) if isinstance(scope, TenantScope) else query


def _refuse_in_tenant(what: str) -> None:
    scope = current_scope()
    if isinstance(scope, TenantScope):
        raise TenantMismatch(f"{scope.tenant_id} cannot {what}: not all of them are its own.")

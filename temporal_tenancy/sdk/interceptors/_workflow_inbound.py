"""The interceptor of runs and messages: each in its scope, and none from another tenant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import FailureError
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from temporal_tenancy.core.errors import (
    InvalidPayload,
    ScopeMissing,
    TenancyError,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.failures import root_cause, sentence_of
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.observations import Refused, observe
from temporal_tenancy.core.scope import TenantScope, _begin
from temporal_tenancy.sdk import agreement, header
from temporal_tenancy.sdk.endings import (
    ends_for_good,
    free_own_slot,
    is_recorded,
    record_own_failure,
)
from temporal_tenancy.sdk.interceptors._workflow_outbound import TenancyWorkflowOutbound
from temporal_tenancy.sdk.private_names import is_bound_by_sdk, signal_method, update_method
from temporal_tenancy.sdk.stamps import Stamp

PATCH_SEARCH_ATTRIBUTES = "temporal-tenancy-search-attributes"


class TenancyWorkflowInbound(WorkflowInboundInterceptor):
    """Runs a job and its handlers in their scope; the guard checks the start before that."""

    exempt: Collection[str] = ()  # workflow types that run undeclared, without a scope
    records_failures = True  # whether a feature of this worker serves that

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        # workflow.info() would ask an outbound chain that does not exist yet.
        info = outbound.info()
        self.job: Job | None = registry.get(info.workflow_type)
        self.refusal: TenancyError | None = None
        if self.job is None:
            if info.workflow_type not in self.exempt:
                self.refusal = ScopeMissing(
                    f"the workflow {info.workflow_type} is not declared, and not exempted by name."
                )
            self.next.init(outbound)  # without a scope
            return
        try:
            stamp = Stamp.of_id(self.job, info.workflow_id)
        except TenancyError as error:
            # The guard, which comes next, refuses this start with a better message. Without the
            # guard, `execute_workflow` fails the run.
            self.refusal = error
            self.next.init(outbound)
            return
        self.id, self.scope = stamp.id, stamp.scope
        self.next.init(TenancyWorkflowOutbound(outbound, self.scope, self.id))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        if self.refusal is not None:
            raise self.refusal
        if self.job is None:
            return await self.next.execute_workflow(input)
        if self.job.takes_input:
            # The guard has checked this already. If another plugin has removed the guard, this
            # still fails before the run's own code.
            if len(input.args) != 1:
                raise TenantMissing(f"{self.job.name} takes one input, not {len(input.args)}.")
            agreement.check_workflow_id(str(self.id), self.job, input.args[0])
        self._set_search_attributes()
        at_work = f"{self._sentence()}: at work."
        workflow.set_current_details(at_work)
        with _begin(self.scope):
            try:
                result = await self._run(input)
            except FailureError as error:
                why = sentence_of(root_cause(error))
                workflow.set_current_details(f"{self._sentence()}: failed. {why}")
                await free_own_slot()
                raise
            await free_own_slot()
        if workflow.get_current_details() == at_work:  # the job has not changed them
            workflow.set_current_details(f"{self._sentence()}: done.")
        return result

    async def _run(self, input: ExecuteWorkflowInput) -> Any:
        """Runs the job's own code; a tenant's job that fails permanently leaves a dead letter."""
        try:
            return await self.next.execute_workflow(input)
        except Exception as error:
            # A workflow that works off a job's messages has that job in its id, and its messages
            # have dead letters themselves.
            own = self.job is not None and self.job.name == self.id.job
            if (
                own
                and isinstance(self.scope, TenantScope)
                and ends_for_good(error)
                and is_recorded(served=self.records_failures)
            ):
                await record_own_failure(error, self.scope.tenant_id, input.args[0])
            raise

    async def handle_signal(self, input: HandleSignalInput) -> None:
        if self.job is None:
            return await self.next.handle_signal(input)
        # Never raise here: a signal handler that raises fails the whole workflow.
        try:
            self._check_sender(input.headers, f"signal {input.signal}")
        except TenantMismatch as error:
            self._drop_signal(input.signal, "signal.foreign", error.message)
            return None
        # With a wrong number of arguments the call would raise a TypeError, which counts as a bug:
        # the workflow task would be retried for ever.
        try:
            own = signal_method(type(workflow.instance()), input.signal)
            _bind(workflow.get_signal_handler(input.signal), own, input)
        except TypeError as error:
            self._drop_signal(input.signal, "signal.malformed", str(error))
            return None
        with _begin(self.scope):
            return await self.next.handle_signal(input)

    async def handle_query(self, input: HandleQueryInput) -> Any:
        if self.job is None:
            return await self.next.handle_query(input)
        self._check_sender(input.headers, f"query {input.query}")
        with _begin(self.scope):
            return await self.next.handle_query(input)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        if self.job is None:
            return self.next.handle_update_validator(input)
        self._check_sender(input.headers, f"update {input.update}")
        with _begin(self.scope):
            return self.next.handle_update_validator(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        if self.job is None:
            return await self.next.handle_update_handler(input)
        # A handler that was set while the workflow ran may have no validator.
        self._check_sender(input.headers, f"update {input.update}")
        try:
            own = update_method(type(workflow.instance()), input.update)
            _bind(workflow.get_update_handler(input.update), own, input)
        except TypeError as error:
            raise InvalidPayload(f"update {input.update} is malformed: {error}.") from None
        with _begin(self.scope):
            return await self.next.handle_update_handler(input)

    def _check_sender(self, headers: Mapping[str, Payload], what: str) -> None:
        # A message without a header (Web UI, CLI, built-in queries) or from the platform acts in
        # the tenant of the workflow that it names.
        sender = header.read(headers)
        if isinstance(sender, TenantScope) and sender.owner != self.scope.owner:
            if not workflow.unsafe.is_replaying_history_events():
                observe(Refused(TenantMismatch.__name__, "message"))
            raise TenantMismatch(
                f'{what} comes from {sender.tenant_id}, but "{self.id}" belongs to '
                f"{self.scope.owner}."
            )

    def _drop_signal(self, signal: str, event: str, why: str) -> None:
        # No label has the tenant: the number of series must not grow with the number of tenants.
        workflow.metric_meter().create_counter(
            "tenancy_signals_dropped", "Signals dropped: of another tenant, or malformed"
        ).add(1, {"reason": event})
        workflow.logger.warning(
            "signal.dropped", extra={"action": event, "signal": signal, "why": why}
        )

    def _set_search_attributes(self) -> None:
        present = workflow.info().typed_search_attributes
        if present.get(agreement.TENANT_ID) and present.get(agreement.JOB):
            return
        # Only starts that bypass our client lack them. The patch keeps histories replayable that
        # were recorded before the plugin was used.
        if workflow.patched(PATCH_SEARCH_ATTRIBUTES):
            own = agreement.own_attributes(self.scope.owner, self.id.job)
            workflow.upsert_search_attributes([key.value_set(own[key]) for key in own])

    def _sentence(self) -> str:
        return f"{self.id.job} for {self.scope.owner}, {self.id.key}"


def _bind(
    handler: Callable[..., Any] | None,
    method: Callable[..., Any] | None,
    message: HandleSignalInput | HandleUpdateInput,
) -> None:
    """Raises `TypeError` if a message's handler cannot be called with its arguments.

    `method` is the method of the workflow's class for this message, if it has one: the SDK wraps an
    async method in a closure that accepts any arguments.
    """
    if handler is None:  # the message goes to the dynamic handler, which accepts any
        return
    if method is not None and is_bound_by_sdk(handler):
        inspect.signature(method).bind(workflow.instance(), *message.args)
    else:
        inspect.signature(handler).bind(*message.args)

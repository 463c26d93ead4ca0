"""The check before any workflow code: a wrong start fails at once, and nothing of it runs.

An interceptor is too late for this: `__init__`, and signals and updates that come with the start,
run before `execute_workflow` is intercepted. The guard stands in front of the sandbox instead.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import structlog
from temporalio import workflow
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import InitializeWorkflow, WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import WithSerializationContext, WorkflowSerializationContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from temporal_tenancy import agreement
from temporal_tenancy.converter import PayloadDoesNotFit
from temporal_tenancy.errors import (
    ConfigurationError,
    InvalidPayload,
    TenancyError,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.identifiers import WorkflowId
from temporal_tenancy.jobs import Job, job_of

log = structlog.stdlib.get_logger(__name__)


class _Guard:
    """Marks a runner that is guarded, and holds what it must know."""

    exempt: Collection[str] = ()


def guarded(runner: WorkflowRunner, *, exempt: Collection[str]) -> WorkflowRunner:
    """Returns `runner`, whose class is kept as a base, with the guard in front of each workflow.

    `exempt` are workflow types that are let through. Raises `ConfigurationError` when the sandbox
    is off: unsandboxed workflow code may read the clock, the network, or another run's memory.
    """
    if isinstance(runner, _Guard):
        return runner
    if not isinstance(runner, SandboxedWorkflowRunner):
        raise ConfigurationError(
            f"the workflow runner {type(runner).__name__} has no sandbox. "
            "Leave workflow_runner out, or give a SandboxedWorkflowRunner."
        )

    class GuardedWorkflowRunner(_Guard, type(runner)):  # type: ignore[misc]
        """The sandbox, with the guard in front of it."""

        def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
            instance: WorkflowInstance = super().create_instance(det)
            job = job_of(det.defn.cls)
            if job is None or det.info.workflow_type in self.exempt:
                return instance
            return _GuardedInstance(instance, det, job)

    GuardedWorkflowRunner.exempt = exempt
    guard = object.__new__(GuardedWorkflowRunner)
    guard.__dict__.update(vars(runner))
    return guard


def is_guarded(runner: WorkflowRunner) -> bool:
    """Whether `runner` has the guard in front of it."""
    return isinstance(runner, _Guard)


class _GuardedInstance(WorkflowInstance):
    """A workflow instance that is not run when its start is wrong."""

    def __init__(self, inner: WorkflowInstance, det: WorkflowInstanceDetails, job: Job) -> None:
        self.inner = inner
        self.details = det
        self.job = job
        self.refusal: TenancyError | None = None

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        for work in act.jobs:
            if work.HasField("initialize_workflow"):
                try:
                    self._check(work.initialize_workflow)
                except TenancyError as error:
                    self.refusal = error
                    log.warning(
                        "workflow.refused",
                        job=self.job.name,
                        job_id=self.details.info.workflow_id,
                        run_id=self.details.info.run_id,
                        error_type=error.type,
                        error=error.message,
                    )
        if self.refusal is not None:
            return self._refuse(act, self.refusal)
        completion = self.inner.activate(act)
        foreign = self._foreign_upsert(completion)
        return completion if foreign is None else self._fail(foreign)

    def _foreign_upsert(self, completion: WorkflowActivationCompletion) -> TenancyError | None:
        """Workflow code may set search attributes past every interceptor, but not another's."""
        own = WorkflowId.parse(self.details.info.workflow_id)
        right = {agreement.TENANT_ID.name: own.owner, agreement.JOB.name: own.job}
        for command in completion.successful.commands:
            if not command.HasField("upsert_workflow_search_attributes"):
                continue
            upserted = command.upsert_workflow_search_attributes.search_attributes.indexed_fields
            for name, value in right.items():
                if name in upserted and json.loads(upserted[name].data or b"null") != value:
                    return TenantMismatch(
                        f'workflow "{own}" sets its search attribute {name} to something else '
                        f"than {value}. Leave it as it is: it is set from the input."
                    )
        return None

    def _check(self, start: InitializeWorkflow) -> None:
        job, info = self.job, self.details.info
        given = len(start.arguments)
        expected = 1 if job.takes_input else 0
        if given == 0 and job.kind == "tenant":
            raise TenantMissing(f'the input of {job.name} names no tenant. Add "tenant_id".')
        if given != expected:
            raise InvalidPayload(f"{job.name} takes {expected} input, not {given}.")
        job_input = self._decode(start) if expected else job.input_model()
        scope = agreement.scope_of(job, job_input)
        what = f"{job.name} for {scope.owner}"
        parts = agreement.check_workflow_id(info.workflow_id, job, job_input)
        agreement.check_header(info.headers, scope, what=what)
        agreement.check_search_attributes(
            info.typed_search_attributes, scope, parts.job, what=f'workflow "{info.workflow_id}"'
        )
        if info.parent is not None:
            self._check_parent(info.parent, parts)

    def _check_parent(self, parent: workflow.ParentInfo, own: WorkflowId) -> None:
        try:
            owner = WorkflowId.parse(parent.workflow_id).tenant
        except TenantMismatch:
            return  # a workflow outside tenancy, exempted by name
        if owner is not None and owner != own.owner:
            raise TenantMismatch(
                f'workflow "{own}" was started by "{parent.workflow_id}": {owner} cannot start '
                f"work of {own.tenant or 'the platform'}."
            )

    def _decode(self, start: InitializeWorkflow) -> Any:
        job, info = self.job, self.details.info
        what = f"the input of {job.name}"
        converter = self.details.payload_converter_factory()
        if isinstance(converter, WithSerializationContext):
            converter = converter.with_context(
                WorkflowSerializationContext(info.namespace, info.workflow_id)
            )
        model = job.input_model
        try:
            [value] = converter.from_payloads(list(start.arguments), [model])
        except PayloadDoesNotFit as error:
            failure = error.failure
            message = failure.message.replace("the input", what, 1)
            if isinstance(failure, TenantMissing):
                message = f'{what} names no tenant. Add "tenant_id".'
            raise type(failure)(message) from None
        except Exception:
            # Whatever a converter or a model's own validator raises: this input will not do.
            raise InvalidPayload(f"{what} cannot be decoded.") from None
        if value is None and job.kind == "tenant":
            raise TenantMissing(f'{what} names no tenant. Add "tenant_id".')
        if not isinstance(value, model):
            raise InvalidPayload(f"{what} is not a {model.__name__}.")
        return value

    def _refuse(
        self, act: WorkflowActivation, refusal: TenancyError
    ) -> WorkflowActivationCompletion:
        """Fails the workflow at its start; a query that comes later is answered with the reason."""
        completion = WorkflowActivationCompletion()
        completion.successful.SetInParent()
        for work in act.jobs:
            if work.HasField("initialize_workflow"):
                self._say(
                    refusal,
                    completion.successful.commands.add().fail_workflow_execution.failure,
                )
            elif work.HasField("query_workflow"):
                answer = completion.successful.commands.add().respond_to_query
                answer.query_id = work.query_workflow.query_id
                self._say(refusal, answer.failed)
        return completion

    def _fail(self, refusal: TenancyError) -> WorkflowActivationCompletion:
        """Fails the workflow in the place of whatever its code has come to."""
        completion = WorkflowActivationCompletion()
        self._say(refusal, completion.successful.commands.add().fail_workflow_execution.failure)
        return completion

    def _say(self, refusal: TenancyError, failure: Failure) -> None:
        converter = self.details.payload_converter_factory()
        self.details.failure_converter_class().to_failure(refusal, converter, failure)

    def get_serialization_context(self, command_info: Any) -> Any:
        # WorkflowInstance's own private types are in these two signatures.
        return self.inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        return self.inner.get_external_store_context(command_info)

    def get_info(self) -> workflow.Info:
        return self.inner.get_info()

    def get_thread_id(self) -> int | None:
        return self.inner.get_thread_id()

"""The guard in front of workflow code: a wrong start fails before any of the code runs.

An interceptor would be too late: `__init__`, and signals and updates that come with the start, run
before `execute_workflow` is intercepted. So the guard sits in front of the sandbox. From there it
also checks the commands that the code sends, which leave after every interceptor.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from temporalio import workflow
from temporalio.api.enums.v1 import ContinueAsNewInitiator, VersioningBehavior
from temporalio.api.failure.v1 import Failure
from temporalio.converter import (
    DataConverter,
    StorageDriverStoreContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import (
    ConfigurationError,
    InvalidPayload,
    TenancyError,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, job_of
from temporal_tenancy.core.observations import Refused, observe
from temporal_tenancy.sdk import agreement
from temporal_tenancy.sdk._commands import refusal_of
from temporal_tenancy.sdk._converter import PayloadDoesNotFit
from temporal_tenancy.sdk._determinism import refused_import
from temporal_tenancy.sdk.private_names import (
    InitializeWorkflow,
    WorkflowActivation,
    WorkflowActivationCompletion,
    WorkflowCommand,
    WorkflowDefinition,
)
from temporal_tenancy.sdk.stamps import Stamp

STARTER_SHOWN: Final = 100  # characters of what a client calls itself
PATCH_FOREIGN_COMMAND: Final = "temporal-tenancy-foreign-command"
PATCH_ANOTHER_PERIOD: Final = "temporal-tenancy-another-period"
_BY_CRON: Final = ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE
_OF_A_CHAIN: Final = (  # the first run of the chain was accepted
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_WORKFLOW,
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY,
)
_NOWHERE: Final = StorageDriverStoreContext()
_PINNED: Final = VersioningBehavior.VERSIONING_BEHAVIOR_PINNED
_UPGRADING: Final = VersioningBehavior.VERSIONING_BEHAVIOR_AUTO_UPGRADE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardedWorkflowRunner(SandboxedWorkflowRunner):
    """The sandbox, with the guard in front of each workflow.

    Another plugin may change the sandbox's fields by `dataclasses.replace`.
    """

    exempt: frozenset[str] = frozenset()  # workflow types that are not checked
    versioned: bool = False  # whether the worker uses worker versioning
    # Whether something that encodes payloads after the workflow may ask what each is of. The SDK
    # asks the sandbox for it twice per payload, a tenth of a worker's work in Python.
    gives_contexts: bool = True
    inner: SandboxedWorkflowRunner = field(default_factory=SandboxedWorkflowRunner)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = self._sandbox().create_instance(det)
        job = job_of(det.defn.cls)
        if job is None or det.info.workflow_type in self.exempt:
            return instance
        return _GuardedInstance(
            instance, det, job, versioned=self.versioned, gives_contexts=self.gives_contexts
        )

    def prepare_workflow(self, defn: WorkflowDefinition) -> None:
        """Loads a workflow's module into the sandbox, once per process because it is slow.

        Raises:
            ConfigurationError: the module imports one that reaches outside the workflow.
        """
        sandbox = self._sandbox()
        sandboxes = _prepared.setdefault(defn.cls, [])
        if sandbox not in sandboxes:
            try:
                sandbox.prepare_workflow(defn)
            except Exception as error:
                refused = refused_import(error)
                if refused is None:
                    raise
                raise refused from error
            sandboxes.append(sandbox)

    def _sandbox(self) -> SandboxedWorkflowRunner:
        return replace(self.inner, restrictions=self.restrictions, runner_class=self.runner_class)


# The sandboxes that each workflow is loaded in; each sandbox loads its own modules.
_prepared: Final[WeakKeyDictionary[type, list[SandboxedWorkflowRunner]]] = WeakKeyDictionary()


def guarded(runner: WorkflowRunner, *, exempt: Collection[str]) -> GuardedWorkflowRunner:
    """Returns `runner` with the guard in front of each workflow.

    Args:
        runner: the worker's workflow runner.
        exempt: the workflow types that are not checked.

    Raises:
        ConfigurationError: `runner` has no sandbox, without which workflow code could read the
            clock, the network, or another run's memory.
    """
    if isinstance(runner, GuardedWorkflowRunner):
        return runner
    if not isinstance(runner, SandboxedWorkflowRunner):
        raise ConfigurationError(
            f"the workflow runner {type(runner).__name__} has no sandbox. "
            "Leave workflow_runner out, or pass a SandboxedWorkflowRunner."
        )
    return GuardedWorkflowRunner(
        restrictions=runner.restrictions,
        runner_class=runner.runner_class,
        exempt=frozenset(exempt),
        inner=runner,
    )


def is_guarded(runner: WorkflowRunner) -> bool:
    """Whether `runner` has the guard."""
    return isinstance(runner, GuardedWorkflowRunner)


def versioned(runner: WorkflowRunner) -> WorkflowRunner:
    """Returns `runner` for a versioned worker; one without the guard is returned as it is."""
    return replace(runner, versioned=True) if isinstance(runner, GuardedWorkflowRunner) else runner


def needs_contexts(converter: DataConverter) -> bool:
    """Whether a codec, an external storage or a class of somebody else's sees the payloads."""
    return (
        type(converter) is not DataConverter
        or converter.payload_codec is not None
        or converter.external_storage is not None
    )


def fitted(runner: WorkflowRunner, converter: DataConverter) -> WorkflowRunner:
    """Returns `runner` for a worker with a data converter, without contexts that it needs not."""
    if isinstance(runner, GuardedWorkflowRunner) and not needs_contexts(converter):
        return replace(runner, gives_contexts=False)
    return runner


def fits(runner: WorkflowRunner, converter: DataConverter) -> bool:
    """Whether `runner` gives the contexts that a data converter needs."""
    if isinstance(runner, GuardedWorkflowRunner) and not runner.gives_contexts:
        return not needs_contexts(converter)
    return True


class _GuardedInstance(WorkflowInstance):
    """A workflow instance that does not run if its start is wrong."""

    def __init__(
        self,
        inner: WorkflowInstance,
        det: WorkflowInstanceDetails,
        job: Job,
        *,
        versioned: bool,
        gives_contexts: bool,
    ) -> None:
        """`versioned`, `gives_contexts`: as of the runner."""
        self.inner = inner
        self.details = det
        self.job = job
        self.versioned = versioned
        self.gives_contexts = gives_contexts
        self.refusal: TenancyError | None = None
        self.marker = ""  # of the refusal in the history, if earlier releases accepted the start
        self.has_refused = False  # whether the history says that a command was refused

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        for work in act.jobs:
            if work.HasField("initialize_workflow"):
                try:
                    job_input = self._check(work.initialize_workflow)
                    self._check_period(act, work.initialize_workflow, job_input)
                except TenancyError as error:
                    self.refusal = error
                    self._log(error, started_by=work.initialize_workflow.identity)
            elif work.HasField("notify_has_patch"):
                self.has_refused |= work.notify_has_patch.patch_id == PATCH_FOREIGN_COMMAND
        if self.refusal is not None:
            return self._refuse(act, self.refusal)
        completion = self.inner.activate(act)
        commands = completion.successful.commands
        own = WorkflowId.parse(self.details.info.workflow_id)
        foreign = _foreign_upsert(commands, own)
        if foreign is not None:
            return self._fail(foreign)
        # A command in the history was accepted once, and replay must accept it again, or the run
        # would be stuck. A history that ends with a refusal has a marker that says so.
        if self.has_refused or not act.is_replaying:
            foreign = refusal_of(commands, own, self.details.info.namespace)
            if foreign is not None:
                if not act.is_replaying:
                    self._log(foreign)
                return self._fail(foreign, marker=PATCH_FOREIGN_COMMAND)
        # Not by `@workflow.defn(versioning_behavior=…)`: the server refuses every task of an
        # unversioned worker that says one.
        if self.versioned and completion.HasField("successful"):
            completion.successful.versioning_behavior = _PINNED if self.job.pinned else _UPGRADING
        return completion

    def _check(self, start: InitializeWorkflow) -> Any:  # the job's input
        job, info = self.job, self.details.info
        count = len(start.arguments)
        expected = 1 if job.takes_input else 0
        if count == 0 and job.kind == "tenant":
            raise TenantMissing(f'the input of {job.name} names no tenant. Add "tenant_id".')
        if count != expected:
            raise InvalidPayload(f"{job.name} takes {expected} input, not {count}.")
        job_input = self._decode(start) if expected else job.input_model()
        stamp = Stamp.of(job, job_input, info.workflow_id)
        what = f"{job.name} for {stamp.scope.owner}"
        stamp.check(info.headers, info.typed_search_attributes, what=what)
        if info.parent is not None:
            self._check_parent(info.parent, stamp.id)
        return job_input

    def _check_period(
        self, act: WorkflowActivation, start: InitializeWorkflow, job_input: Any
    ) -> None:
        """Raises `InvalidPayload` if the key names another period than the input.

        A fan-out would take the run for that of the period in its key. Earlier releases accepted
        such a start, so only a first task is refused: a run whose history goes on was accepted, and
        a history that ends with the refusal has a marker that says so.
        """
        was_refused = any(
            work.HasField("notify_has_patch")
            and work.notify_has_patch.patch_id == PATCH_ANOTHER_PERIOD
            for work in act.jobs
        )
        if act.is_replaying and not was_refused:
            return
        if start.continued_initiator in _OF_A_CHAIN:
            return
        key = WorkflowId.parse(self.details.info.workflow_id).key
        period = self.job.another_period(key, getattr(job_input, "period", None))
        if period is not None:
            self.marker = PATCH_ANOTHER_PERIOD
            raise InvalidPayload(
                f'the key of {self.job.name} and the period in its input differ: "{key}" and '
                f'"{period}". Give the run the key of its period.'
            )

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
            # Any error of a converter or a model's validator means that the input is invalid.
            raise InvalidPayload(f"{what} cannot be decoded.") from None
        if value is None and job.kind == "tenant":
            raise TenantMissing(f'{what} names no tenant. Add "tenant_id".')
        if not isinstance(value, model):
            raise InvalidPayload(f"{what} is not a {model.__name__}.")
        return value

    def _refuse(
        self, act: WorkflowActivation, refusal: TenancyError
    ) -> WorkflowActivationCompletion:
        """Fails the workflow at its start, and answers later queries with the reason.

        The server starts a run with a cron schedule again after a failure, with the same input, for
        ever. So the first run fails, and the second one ends as cancelled, after which there is no
        other.
        """
        completion = WorkflowActivationCompletion()
        completion.successful.SetInParent()
        for work in act.jobs:
            if work.HasField("initialize_workflow"):
                if self.marker:
                    marker = completion.successful.commands.add()
                    marker.set_patch_marker.patch_id = self.marker
                command = completion.successful.commands.add()
                if _follows_by_cron(work.initialize_workflow):
                    command.cancel_workflow_execution.SetInParent()
                else:
                    self._encode(refusal, command.fail_workflow_execution.failure)
            elif work.HasField("query_workflow"):
                answer = completion.successful.commands.add().respond_to_query
                answer.query_id = work.query_workflow.query_id
                self._encode(refusal, answer.failed)
        return completion

    def _log(self, refusal: TenancyError, *, started_by: str | None = None) -> None:
        """Logs a refusal; `started_by` is what the client that started the run calls itself."""
        observe(Refused(refusal.type or "", "workflow"))
        log.warning(
            "workflow.refused",
            extra={
                "job": self.job.name,
                "job_id": self.details.info.workflow_id,
                "run_id": self.details.info.run_id,
                "error_type": refusal.type,
                "error": refusal.message,
                **({"started_by": printable(started_by)[:STARTER_SHOWN]} if started_by else {}),
            },
        )

    def _fail(self, refusal: TenancyError, *, marker: str = "") -> WorkflowActivationCompletion:
        """Fails the workflow, and discards the commands of its code."""
        completion = WorkflowActivationCompletion()
        if marker:
            completion.successful.commands.add().set_patch_marker.patch_id = marker
        self._encode(refusal, completion.successful.commands.add().fail_workflow_execution.failure)
        return completion

    def _encode(self, refusal: TenancyError, failure: Failure) -> None:
        converter = self.details.payload_converter_factory()
        self.details.failure_converter_class().to_failure(refusal, converter, failure)

    def get_serialization_context(self, command_info: Any) -> Any:
        # The SDK declares this method and the next one with private types.
        return self.inner.get_serialization_context(command_info) if self.gives_contexts else None

    def get_external_store_context(self, command_info: Any) -> Any:
        if not self.gives_contexts:
            return _NOWHERE
        return self.inner.get_external_store_context(command_info)

    def get_info(self) -> workflow.Info:
        return self.inner.get_info()

    def get_thread_id(self) -> int | None:
        return self.inner.get_thread_id()


def _follows_by_cron(start: InitializeWorkflow) -> bool:
    """Whether a cron schedule started the run after another; it is named for the first run too."""
    return start.continued_initiator == _BY_CRON and bool(start.continued_from_execution_run_id)


def _foreign_upsert(commands: Iterable[WorkflowCommand], own: WorkflowId) -> TenancyError | None:
    """Returns why an upsert of search attributes is refused, since no interceptor sees upserts.

    None if each leaves the run's own `TenantId` and `Job` as they are.
    """
    attributes = agreement.own_attributes(own.owner, own.job)
    right = {key.name: value for key, value in attributes.items()}
    for command in commands:
        fields = command.upsert_workflow_search_attributes.search_attributes.indexed_fields
        try:
            agreement.check_indexed_fields(fields, right, f'workflow "{own}"')
        except TenancyError as error:
            return error
    return None

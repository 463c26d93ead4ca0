"""The plugin that adds tenancy to a client, its workers and its replayers, with any features."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import BaseModel
from temporalio.client import ClientConfig
from temporalio.common import VersioningBehavior
from temporalio.plugin import SimplePlugin
from temporalio.worker import ReplayerConfig, Worker, WorkerConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from temporal_tenancy.core.activities import mark_of
from temporal_tenancy.core.directory import CachedDirectory, TenantDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.inputs import TenantInput, require_plain_tenant_id
from temporal_tenancy.core.jobs import Job, job_of, registry
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.platform_schedules import PlatformSchedule
from temporal_tenancy.sdk import _converter as converter
from temporal_tenancy.sdk._guard import fits, fitted, guarded, is_guarded, versioned
from temporal_tenancy.sdk.code_checks import check_activity, check_workflow
from temporal_tenancy.sdk.endings import FREE_SLOT, RECORD_FAILED_RUN
from temporal_tenancy.sdk.features import Feature, Served
from temporal_tenancy.sdk.interceptors import TenancyInterceptor
from temporal_tenancy.sdk.interceptors.service_client import checked
from temporal_tenancy.sdk.private_names import (
    ActivityDefinition,
    WorkflowDefinition,
    activity_definition,
    mark_shut_down,
    workflow_definition,
)
from temporal_tenancy.sdk.search_attributes import require_search_attributes

NAME: Final = "temporal-tenancy.TenancyPlugin"
# Called as local activities, by runs on the same worker.
_LOCAL: Final = frozenset({RECORD_FAILED_RUN, FREE_SLOT})


class TenancyPluginBase(SimplePlugin):
    """The plugin without features."""

    def __init__(
        self,
        *,
        directory: TenantDirectory | None = None,
        features: Iterable[Feature] = (),
        passthrough: Iterable[str] = (),
        exempt: Mapping[str, str] | None = None,
        payload_limit: int | None = None,
    ) -> None:
        """
        For the arguments see `temporal_tenancy.TenancyPlugin`, which adds the usual features.

        Raises:
            ConfigurationError: an exemption has no reason, or two features have the same name.
        """
        self.exempt = dict(exempt or {})
        for name, reason in self.exempt.items():
            if not reason.strip():
                raise ConfigurationError(f"the exemption of {name} needs a reason.")
        self.passthrough = ("temporal_tenancy", *passthrough)
        cached = (
            directory
            if directory is None or isinstance(directory, CachedDirectory)
            else CachedDirectory(directory)
        )
        self.directory: CachedDirectory | None = cached
        self.features = tuple(features)
        self._refuse_features_twice()
        self._interceptor = TenancyInterceptor(cached, self.features, frozenset(self.exempt))
        super().__init__(
            NAME,
            data_converter=partial(
                converter.compose, limit=payload_limit or converter.PAYLOAD_LIMIT
            ),
            interceptors=[self._interceptor],
            workflow_runner=self._runner,
        )

    @property
    def migrations(self) -> tuple[MigrationEnvironment, ...]:
        """The migrations that the features' tables need, for `migrate()`: each once, in order."""
        return tuple(
            dict.fromkeys(
                environment for feature in self.features for environment in feature.migrations
            )
        )

    @property
    def schedules(self) -> tuple[PlatformSchedule, ...]:
        """The schedules of the features' platform jobs."""
        return tuple(schedule for feature in self.features for schedule in feature.schedules)

    @property
    def _served(self) -> list[type]:
        return [cls for feature in self.features for cls in feature.workflows]

    @property
    def _known(self) -> list[type]:
        return [*self._served, *(cls for feature in self.features for cls in feature.replayed)]

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Adds tenancy to a client; the SDK calls this.

        Raises:
            ConfigurationError: the client has another `TenancyPlugin`.
        """
        self._refuse_a_second(config.get("interceptors") or ())
        config = super().configure_client(config)
        config["service_client"] = checked(config["service_client"], config["namespace"])
        return config

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Adds tenancy and the features to a worker; the SDK calls this.

        Raises:
            ConfigurationError: the client lacks the plugin, there are two of them, or the worker
                could lose a tenant: by an undeclared workflow or activity, an input whose tenant
                is not checked, Nexus handlers, or an executor that is no thread pool. Also if the
                source of its code shows a missing `await`, calls an activity that this worker
                would be given and does not have, or imports what workflow code may not use.
        """
        of_client = config["client"].config(active_config=True)["interceptors"]
        self._refuse_a_second([*(config.get("interceptors") or ()), *of_client])
        if not any(isinstance(interceptor, TenancyInterceptor) for interceptor in of_client):
            raise ConfigurationError(
                "this worker has a TenancyPlugin, but its client has none. Pass it to the client: "
                "Client.connect(..., plugins=[TenancyPlugin(...)])."
            )
        self._interceptor.client = config["client"]
        config = super().configure_worker(config)
        workflows = config.get("workflows")
        if workflows:
            config["workflows"] = _merged(workflows, self._served)
            own = [activity for feature in self.features for activity in feature.activities]
            if not config.get("activities") and _are_local(own):
                config["no_remote_activities"] = True  # so it polls for no other worker's
            config["activities"] = _merged(config.get("activities") or (), own)
        self._add_activities_of_worker(config)
        self._check(config)
        self._check_code(config)
        # An eager activity bypasses the task queue, and with it fairness.
        config["disable_eager_activity_execution"] = True
        _pin(config)
        config["workflow_runner"] = fitted(
            config["workflow_runner"], config["client"].data_converter
        )
        self._load_workflows(config)
        return config

    def _add_activities_of_worker(self, config: WorkerConfig) -> None:
        activities = list(config.get("activities") or ())
        served = Served(
            identity=config.get("identity") or config["client"].identity,
            queue=config.get("task_queue") or "",
            workflows=tuple(_names(map(workflow_definition, config.get("workflows") or ()))),
            activities=tuple(_names(map(activity_definition, activities))),
        )
        for feature in self.features:
            if feature.of_worker is not None:
                activities += feature.of_worker(served)
        config["activities"] = activities

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Checks the worker as it was built, then runs it; the SDK calls this.

        Raises:
            ConfigurationError: another plugin has undone what tenancy needs, or the namespace
                lacks a search attribute.
            RPCError: the server does not answer.
        """
        try:
            await self._check_built(worker.config(active_config=True))
        except BaseException:
            mark_shut_down(worker)  # nothing was started
            raise
        async with AsyncExitStack() as stack:
            for feature in self.features:
                if feature.around_workers is not None:
                    await stack.enter_async_context(feature.around_workers())
            await super().run_worker(worker, next)

    async def _check_built(self, config: WorkerConfig) -> None:
        self._check(config)
        if not is_guarded(config["workflow_runner"]):
            raise ConfigurationError(
                "another plugin has replaced the workflow runner, and with it the guard. List "
                "TenancyPlugin last, or leave that plugin out."
            )
        if not fits(config["workflow_runner"], config["client"].data_converter):
            raise ConfigurationError(
                "another plugin has given the worker a client whose data converter has a codec or "
                "an external storage. Give them to Client.connect(data_converter=...)."
            )
        if config.get("workflows"):
            await require_search_attributes(config["client"])

    def _check(self, config: WorkerConfig) -> None:
        self._check_workflows(config.get("workflows") or ())
        self._check_activities(config.get("activities") or ())
        if config.get("nexus_service_handlers"):
            raise ConfigurationError(
                "tenancy is not carried over Nexus: leave nexus_service_handlers out, or serve "
                "them from a worker whose client has no TenancyPlugin."
            )
        executor = config.get("activity_executor")
        if executor is not None and not isinstance(executor, ThreadPoolExecutor):
            raise ConfigurationError(
                f"the activity executor is a {type(executor).__name__}, and the tenant cannot "
                "follow an activity into another process. Use a ThreadPoolExecutor, or async "
                "activities."
            )

    def _check_code(self, config: WorkerConfig) -> None:
        """Raises for mistakes that the source of the application's own code shows."""
        activities = [activity_definition(each) for each in config.get("activities") or ()]
        served = {definition.name for definition in activities}
        is_remote = bool(activities) and not config.get("no_remote_activities")
        for cls in config.get("workflows") or ():
            if job_of(cls) is not None and cls not in self._known:
                check_workflow(cls, served, is_remote=is_remote)
        own = [activity for feature in self.features for activity in feature.activities]
        for function in config.get("activities") or ():
            if function not in own and mark_of(activity_definition(function).fn) is not None:
                check_activity(activity_definition(function).fn)

    def _load_workflows(self, config: WorkerConfig) -> None:
        """Loads the workflows' modules into the sandbox, as the SDK does next.

        Its error, a `RuntimeError`, would hide the sentence about a module that they may not
        import. It reports every other problem itself.
        """
        runner = config["workflow_runner"]
        for cls in config.get("workflows") or ():
            definition = workflow_definition(cls)
            if definition.sandboxed and definition.name not in self.exempt:
                try:
                    runner.prepare_workflow(definition)
                except ConfigurationError:
                    raise
                except Exception:
                    return

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Adds tenancy and the features' workflows to a replayer; the SDK calls this.

        Raises:
            ConfigurationError: a workflow is not declared, or bypasses the sandbox.
        """
        config = super().configure_replayer(config)
        config["workflows"] = _merged(config.get("workflows") or (), self._known)
        self._check_workflows(config.get("workflows") or ())
        runner, converter = config.get("workflow_runner"), config.get("data_converter")
        if runner is not None and converter is not None:
            config["workflow_runner"] = fitted(runner, converter)
        return config

    def _runner(self, existing: WorkflowRunner | None) -> WorkflowRunner:
        runner = guarded(existing or SandboxedWorkflowRunner(), exempt=frozenset(self.exempt))
        passing = runner.restrictions.with_passthrough_modules(*self.passthrough)
        return replace(runner, restrictions=passing)

    def _refuse_features_twice(self) -> None:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"the feature {twice[0]} is listed twice. List it once.")

    def _refuse_a_second(self, interceptors: Sequence[Any]) -> None:
        # By identity: the SDK's base class makes any two interceptors of one type equal.
        own = {id(interceptor) for interceptor in self.interceptors or ()}
        for other in interceptors:
            if isinstance(other, TenancyInterceptor) and id(other) not in own:
                raise ConfigurationError(
                    "there are two TenancyPlugins here. Pass one to the client, and none to its "
                    "workers: they use the client's."
                )

    def _check_workflows(self, workflows: Sequence[type]) -> None:
        len(registry)  # what it loads later, it must load now: a run reads it inside the sandbox
        for cls in workflows:
            definition = workflow_definition(cls)
            if definition.name in self.exempt:
                continue
            job = job_of(cls)
            if job is None:
                raise ConfigurationError(
                    f"the workflow {cls.__qualname__} is not declared. Put @tenant_job or "
                    "@platform_job on it instead of @workflow.defn, or exempt it by name with a "
                    "reason: TenancyPlugin(exempt={...})."
                )
            job.check()
            self._check_schema(job)
            self._refuse_passed_through(cls)

    def _check_schema(self, job: Job) -> None:
        checks = [each.checks_job for each in self.features if each.checks_job is not None]
        if job.schema is not None and not checks:
            raise ConfigurationError(
                f"{job.name} needs the migration {job.schema}, and this plugin knows no migrations "
                "of the application. Name them: TenancyPlugin(migrations=[...])."
            )
        for check in checks:
            check(job)

    def _refuse_passed_through(self, cls: type) -> None:
        """Raises if a workflow's own module bypasses the sandbox."""
        if cls in self._known and cls.__module__.startswith("temporal_tenancy."):
            return
        for package in self.passthrough:
            if cls.__module__ == package or cls.__module__.startswith(f"{package}."):
                raise ConfigurationError(
                    f"{cls.__module__} is passed through the sandbox, which is then off for "
                    f"{cls.__qualname__}: it could read the clock, or share memory between runs. "
                    "Pass through only what workflow modules import: activities, models."
                )

    def _check_activities(self, activities: Sequence[Any]) -> None:
        for function in activities:
            definition = activity_definition(function)
            name = definition.name or "(dynamic)"
            if name not in self.exempt and mark_of(definition.fn) is None:
                raise ConfigurationError(
                    f"the activity {name} is not declared. Put @tenant_activity or "
                    "@platform_activity on it instead of @activity.defn, or exempt it by name "
                    "with a reason: TenancyPlugin(exempt={...})."
                )
            if name not in self.exempt:
                _check_inputs(name, definition.arg_types or [])


def _pin(config: WorkerConfig) -> None:
    """On a versioned worker, lets each run keep its version or not, as its job declares."""
    deployment = config.get("deployment_config")
    if deployment is None or not deployment.use_worker_versioning:
        return
    if deployment.default_versioning_behavior is VersioningBehavior.UNSPECIFIED:
        # Of workflows that are exempt: the SDK refuses a worker without it.
        config["deployment_config"] = replace(
            deployment, default_versioning_behavior=VersioningBehavior.PINNED
        )
    config["workflow_runner"] = versioned(config["workflow_runner"])


def _names(definitions: Iterable[WorkflowDefinition | ActivityDefinition]) -> Iterator[str]:
    """Yields the names of definitions; a dynamic one has none."""
    return (definition.name for definition in definitions if definition.name is not None)


def _merged(first: Sequence[Any], second: Iterable[Any]) -> list[Any]:
    """Returns the items of `first`, then those of `second` that `first` lacks."""
    return [*first, *(item for item in second if item not in first)]


def _are_local(activities: Iterable[Any]) -> bool:
    names = {activity_definition(function).name for function in activities}
    return names <= _LOCAL


def _check_inputs(name: str, types: Sequence[type]) -> None:
    """Raises if an activity's input could name a tenant that no check sees."""
    for model in types:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        if issubclass(model, TenantInput):
            require_plain_tenant_id(model, f"{model.__name__}, the input of {name},")
            if len(types) > 1:
                raise ConfigurationError(
                    f"the activity {name} takes {model.__name__} beside other arguments. Move "
                    "them into the model, which must be the only argument."
                )
        elif "tenant_id" in model.model_fields:
            raise ConfigurationError(
                f"{model.__name__}, the input of {name}, has a tenant_id but does not extend "
                "TenantInput. Extend it, or leave the field out: current_tenant() has it."
            )

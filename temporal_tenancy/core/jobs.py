"""Jobs: the declarations on workflow classes, and the registry of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, Literal, TypeVar, get_type_hints

from pydantic import BaseModel
from temporalio import workflow

from temporal_tenancy.core._private import run_method, updates_without_validator
from temporal_tenancy.core.directory import RUNNABLE, TenantStatus
from temporal_tenancy.core.errors import ConfigurationError, InvalidPayload, UnknownJob
from temporal_tenancy.core.identifiers import job_name
from temporal_tenancy.core.inputs import (
    PlatformInput,
    TenantInput,
    TenantJobInput,
    require_plain_tenant_id,
)
from temporal_tenancy.core.nearest import did_you_mean
from temporal_tenancy.core.periods import Period
from temporal_tenancy.core.spelling import SpelledEnum, spelled

Class = TypeVar("Class", bound=type)
_MARK: Final = "__tenancy_job__"
_BY_POSITION: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
IN_WORKFLOW: Final = 100  # messages that a workflow takes whose handler takes several
LIMIT_MAX: Final = 5_000  # messages of a workflow, whose input has the id of each


class JobPriority(IntEnum, metaclass=SpelledEnum):
    """Temporal's priority keys: among the tasks that wait in a queue, lower keys run first."""

    URGENT = 1
    HIGH = 2
    NORMAL = 3  # Temporal's default
    LOW = 4
    IDLE = 5


@spelled
@dataclass(frozen=True)
class Coalesce:
    """How waiting messages of one tenant and job are batched into one workflow.

    Up to `limit` messages become one workflow with one activity, which calls `handler` once per
    message, with up to `parallel` calls at a time. `handler` is an async tenant activity that takes
    the job's input and does the work of one message.

    With `together`, it takes a list of at most `limit` inputs and does the work of all of them, in
    one transaction; `current_event_ids()` has their events in the same order. A workflow then has
    up to a hundred messages, or `limit` if that is more, and makes one call after another. A call
    that fails is repeated with each half of its messages, until those that cannot be handled stand
    alone. So the handler must undo what it did when it raises, as a `tenant_session()` does. A
    message of which an attempt has failed is handled alone from then on.
    """

    limit: int  # messages per workflow or, together, per call; 1 to 5,000
    handler: Callable[[Any], Awaitable[Any]]  # takes the job's input, or a list of them
    parallel: int = 10  # concurrent calls of the handler, at least 1
    together: bool = False  # whether the handler takes a list

    @property
    def in_workflow(self) -> int:
        """The number of messages that one workflow takes at most."""
        return max(self.limit, IN_WORKFLOW) if self.together else self.limit


@dataclass(frozen=True)
class Job:
    """A workflow type and the settings of all its runs."""

    name: str  # also the workflow type's name
    kind: Literal["tenant", "platform"]
    queue: str
    priority: JobPriority
    workflow: type = field(repr=False)
    feature: str | None = None  # required of the tenant or its plan
    period: Period | None = None  # None: each run has its own key
    statuses: frozenset[TenantStatus] = RUNNABLE  # of the tenant, in which the job may run
    execution_timeout: timedelta | None = None  # of one run, including retries
    waits_out_suspension: bool = False  # instead of failing
    coalesce: Coalesce | None = None  # None: one workflow per message
    reason: str = ""  # why a platform job belongs to no tenant
    pinned: bool = True  # a run ends on the worker version that it began on
    schema: str | None = None  # the application's migration that it needs; None: the newest

    @property
    def summary(self) -> str:
        """The first line of the class's docstring; the job's name if there is none."""
        return (inspect.getdoc(self.workflow) or self.name).split("\n", 1)[0]

    @cached_property
    def is_asked_for(self) -> bool:
        """Whether users can request it: a tenant job, and not one that runs another job's work."""
        return self.kind == "tenant" and not issubclass(self.input_model, TenantJobInput)

    @cached_property
    def takes_input(self) -> bool:
        """Whether `run` takes an argument; that of a tenant job always does."""
        return len(self._parameters()) > 0

    @cached_property
    def input_model(self) -> type[BaseModel]:
        """The model that `run` takes, or `PlatformInput` if it takes no argument.

        Raises:
            ConfigurationError: `run` takes anything else, or its annotations cannot be resolved.
        """
        parameters = self._parameters()
        base = TenantInput if self.kind == "tenant" else PlatformInput
        if self.kind == "platform" and not parameters:
            return PlatformInput
        try:
            hints = get_type_hints(self._run)
        except NameError as error:
            raise ConfigurationError(
                f"the annotations of {self.workflow.__qualname__}.run ({self.name}) cannot be "
                f"resolved: {error}. Import the names they use at module level."
            ) from None
        model = hints.get(parameters[0].name) if len(parameters) == 1 else None
        if not (isinstance(model, type) and issubclass(model, base)):
            raise ConfigurationError(
                f"{self.workflow.__qualname__}.run ({self.name}) must take exactly one argument, "
                f"annotated with a model that extends {base.__name__}."
            )
        return model

    def with_period(self, values: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        """Returns `values` with the field `period` filled in if it is missing.

        The default is the period that `key` names or, without a key, the last whole period.

        Args:
            values: the input, as JSON.
            key: the key of the run, if it is known.

        Raises:
            InvalidPayload: the job has a period, and `key` is not the key of one.
        """
        if self.period is None:
            return dict(values)
        if key is not None:
            self._check_period("the key", key)
        return {"period": self.period.key_now() if key is None else key, **values}

    def key_of(self, job_input: BaseModel, key: str | None = None) -> str | None:
        """Returns the key of a run: the period in its input, or `key` if the job has no period.

        Raises:
            InvalidPayload: the period or `key` is not valid, or the two differ.
        """
        if self.period is None:
            return key
        period = str(getattr(job_input, "period"))  # noqa: B009
        self._check_period("the period", period)
        if key is not None and key != period:
            self._check_period("the key", key)
            raise InvalidPayload(
                f"the key of {self.name} and the period in its input differ. Give one of them."
            )
        return period

    def another_period(self, key: str, period: object) -> str | None:
        """Returns the period in a run's input if its key names another one, else None.

        None also for a key that is no period of the job, as runs of earlier releases have.

        Args:
            key: the key in the run's workflow id.
            period: the field `period` of its input; anything, if the input was not checked.
        """
        if self.period is None or not self.period.is_key(key) or not isinstance(period, str):
            return None
        return None if period == key else str(period)

    def _check_period(self, what: str, key: str) -> None:
        """Raises `InvalidPayload` if `key` is not a period; `what` names it in the message."""
        assert self.period is not None
        try:
            self.period.checked(key)
        except ValueError as error:
            raise InvalidPayload(
                f"{what} of {self.name} is not a valid {self.period}: {error}. Give one such as "
                f'"{self.period.key_now()}".'
            ) from None

    def check(self) -> None:
        """Checks the declaration.

        Raises:
            ConfigurationError: the job could lose a tenant, or its input or handler does not fit.
        """
        model = self.input_model
        self._check_model(model)
        if self.coalesce is not None:
            self._check_coalesce(self.coalesce, model)
        if self.period is not None and "period" not in model.model_fields:
            raise ConfigurationError(
                f'{self.name} has the period "{self.period}", but {model.__name__} has no field '
                '"period". Add one.'
            )

    def _check_coalesce(self, coalesce: Coalesce, model: type[BaseModel]) -> None:
        """Raises `ConfigurationError` if the handler could not take the job's input."""
        if not isinstance(coalesce, Coalesce):
            raise ConfigurationError(
                f"coalesce of {self.name} is {coalesce!r}. Write coalesce=Coalesce(100, handler)."
            )
        what = f"the handler of {self.name}"
        for name, count in (("limit", coalesce.limit), ("parallel", coalesce.parallel)):
            if type(count) is not int or not 1 <= count <= LIMIT_MAX:
                raise ConfigurationError(
                    f"{what} has {name}={count!r}. Give it a whole number from 1 to {LIMIT_MAX:,}."
                )
        taken: Any = list[model] if coalesce.together else model  # type: ignore[valid-type]
        if _taken_by(coalesce.handler, what) != [taken]:
            name = f"list[{model.__name__}]" if coalesce.together else model.__name__
            raise ConfigurationError(
                f"{what} must be async and take exactly one argument, annotated with {name}, "
                f"{'inputs' if coalesce.together else 'the input'} of the job."
            )

    def _check_model(self, model: type[BaseModel]) -> None:
        """Raises `ConfigurationError` if the model fits the other kind of job, or both."""
        what = f"{model.__name__}, the input of {self.name},"
        if self.kind == "platform":
            if issubclass(model, TenantInput):
                raise ConfigurationError(
                    f"{what} extends TenantInput, but the job is a platform job."
                )
            return
        if issubclass(model, PlatformInput):
            raise ConfigurationError(
                f"{what} extends PlatformInput. Extend only TenantInput for a tenant job."
            )
        require_plain_tenant_id(model, what)

    @property
    def _run(self) -> Callable[..., Any]:
        run = run_method(self.workflow)
        if run is None:
            raise ConfigurationError(f"{self.workflow.__qualname__} has no @workflow.run method.")
        return run

    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self._run).parameters.values())[1:]


class Registry(Mapping[str, Job]):
    """All jobs whose modules have been imported, by name."""

    def __init__(self) -> None:
        self._added: dict[str, Job] = {}
        self._later: list[Callable[[], object]] = []

    def load_later(self, load: Callable[[], object]) -> None:
        """Calls `load`, which imports jobs, before the registry is read for the first time.

        A command that asks for no job then starts without importing any. If `load` raises an
        exception, the next reader calls it again.
        """
        self._later.append(load)

    def add(self, job: Job) -> None:
        """Adds a job.

        Raises:
            ConfigurationError: another class has this job's name.
        """
        known = self._added.get(job.name)
        if known is not None and _path(known.workflow) != _path(job.workflow):
            raise ConfigurationError(
                f"two jobs are called {job.name}: {_path(known.workflow)} and "
                f"{_path(job.workflow)}. Rename one."
            )
        # The sandbox imports modules again that are not passed through; keep the first class.
        self._added.setdefault(job.name, job)

    def get_or_raise(self, name: str) -> Job:
        """Returns the job of that name.

        Raises:
            UnknownJob: there is none; the message has the nearest name, or lists the tenant jobs.
        """
        job = self._jobs.get(name)
        if job is None:
            known = sorted(job.name for job in self._jobs.values() if job.kind == "tenant")
            has = f"Use one of: {', '.join(known)}." if known else "This process has none."
            elsewhere = f" {has} Jobs of a module that is not imported here are not known."
            hint = did_you_mean(name, self._jobs) or elsewhere
            raise UnknownJob(f"{name!r} is not a job.{hint}")
        return job

    def __getitem__(self, name: str) -> Job:
        return self._jobs[name]

    def __iter__(self) -> Any:  # Iterator[str]; Mapping's stub requires the loose form
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def _jobs(self) -> Mapping[str, Job]:
        while self._later:
            load = self._later.pop()  # before the call: what it imports may read the registry
            try:
                load()
            except BaseException:
                self._later.append(load)
                raise
        return self._added


def _taken_by(handler: Callable[..., Any], what: str) -> list[Any] | None:
    """Returns the annotations of the arguments that an async function takes by position.

    Returns None for anything else. Raises `ConfigurationError` if they cannot be resolved.
    """
    function = inspect.unwrap(handler) if callable(handler) else None
    if not inspect.iscoroutinefunction(function):
        return None
    parameters = inspect.signature(handler).parameters.values()
    if any(parameter.kind not in _BY_POSITION for parameter in parameters):
        return None
    try:
        hints = get_type_hints(handler)
    except NameError as error:
        raise ConfigurationError(
            f"the annotations of {what} cannot be resolved: {error}. Import the names they use at "
            "module level."
        ) from None
    except TypeError:  # an object that wraps a function, such as a partial
        return None
    return [hints.get(parameter.name) for parameter in parameters]


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


registry: Final = Registry()
"""The jobs that this process knows, by name: those whose modules it has imported."""


@spelled
def tenant_job(
    name: str,
    *,
    queue: str,
    priority: JobPriority = JobPriority.NORMAL,
    feature: str | None = None,
    period: Period | None = None,
    statuses: Iterable[TenantStatus] = RUNNABLE,
    waits_out_suspension: bool = False,
    execution_timeout: timedelta | None = None,
    coalesce: Coalesce | None = None,
    schema: str | None = None,
) -> Callable[[Class], Class]:
    """Declares a workflow class as a job that does one tenant's work.

    Use this decorator in place of `@workflow.defn`. `run` takes one model that extends
    `TenantInput`.

    With `waits_out_suspension`, a run whose tenant is suspended waits instead of failing. Its
    activities are paused on the server, where they hold no slot and use no attempts; once the
    tenant is resumed, they continue from their last heartbeat. An activity in a thread is
    interrupted only if it sends heartbeats. A local activity fails, because the server cannot pause
    it. Timeouts that span attempts keep running. Use it for jobs that users request: a fan-out
    skips suspended tenants, and a child of a fan-out that waits keeps its slot.

    Args:
        name: of the job and of the workflow type, `area.verb`.
        queue: the task queue of the workflow.
        priority: the order among tasks that wait in the same queue.
        feature: a feature that the tenant or its plan must have.
        period: the period that one run covers; the input then has a field `period`.
        statuses: the tenant's statuses in which the job may run.
        waits_out_suspension: as above.
        execution_timeout: of one run, including retries; None sets no limit.
        coalesce: batches waiting messages of one tenant into one workflow. A run that is started
            directly still runs the class itself.
        schema: the application's migration that the job needs, by its revision, such as `"0009"`;
            None: the newest that this release has. A run whose tenant's own store lacks it waits
            like one that waits out a suspension, whatever `waits_out_suspension` says. With two
            sets of migrations, write the set's name too: `"orders:0009"`.

    Raises:
        ConfigurationError: another class has this job's name, or an argument or the class is not
            valid.
    """

    def declare(cls: Class) -> Class:
        return _declare(
            cls,
            Job(
                name=_name(name),
                kind="tenant",
                queue=_text(name, "queue", queue),
                priority=_priority(name, priority),
                workflow=cls,
                feature=None if feature is None else _text(name, "feature", feature),
                period=period,
                statuses=frozenset(statuses),
                execution_timeout=execution_timeout,
                waits_out_suspension=waits_out_suspension,
                coalesce=coalesce,
                schema=None if schema is None else _text(name, "schema", schema),
            ),
        )

    return declare


@spelled
def platform_job(
    name: str,
    *,
    reason: str,
    queue: str,
    priority: JobPriority = JobPriority.NORMAL,
    execution_timeout: timedelta | None = None,
    pinned: bool = False,
) -> Callable[[Class], Class]:
    """Declares a workflow class as a job that belongs to no single tenant.

    Use this decorator in place of `@workflow.defn`. `run` takes no argument, or one model that
    extends `PlatformInput`. The job works for a tenant only by naming it in the input of a child
    workflow or activity.

    Args:
        name: of the job and of the workflow type, `area.verb`.
        reason: why the work belongs to no single tenant, in a few words.
        queue: the task queue of the workflow.
        priority: the order among tasks that wait in the same queue.
        execution_timeout: of one run, including retries; None sets no limit.
        pinned: on versioned workers, whether a run ends on the version that it began on, as a
            tenant's job does. By default it moves to the current version at its next task, so new
            code must replay its history: right for a run that ends within minutes.

    Raises:
        ConfigurationError: another class has this job's name, or an argument or the class is not
            valid.
    """

    def declare(cls: Class) -> Class:
        return _declare(
            cls,
            Job(
                name=_name(name),
                kind="platform",
                queue=_text(name, "queue", queue),
                priority=_priority(name, priority),
                workflow=cls,
                execution_timeout=execution_timeout,
                reason=reason,
                pinned=pinned,
            ),
        )

    return declare


def job_of(cls: type) -> Job | None:
    """Returns the job that a workflow class declares, or None."""
    job: Job | None = cls.__dict__.get(_MARK)
    return job


def _name(name: object) -> str:
    """Returns a job's name; raises `ConfigurationError` if it is none."""
    try:
        return job_name(_text(str(name), "name", name))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _text(job: str, what: str, value: object) -> str:
    """Returns an argument of a declaration; raises `ConfigurationError` if it is no text."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"the {what} of the job {job} must be a text that is not empty, not {value!r}."
        )
    return str(value)


def _priority(job: str, value: object) -> JobPriority:
    """Returns a priority; raises `ConfigurationError` if it is none."""
    try:
        return JobPriority(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(f"JobPriority.{each.name}" for each in JobPriority)
        raise ConfigurationError(
            f"the priority of the job {job} must be one of {known}, not {value!r}."
        ) from None


def _declare(cls: Class, job: Job) -> Class:
    registry.add(job)
    _give_updates_a_validator(cls)
    setattr(cls, _MARK, job)
    try:
        return workflow.defn(name=job.name)(cls)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{cls.__qualname__} ({job.name}) is not a workflow: {str(error).rstrip('.')}."
        ) from None


def _give_updates_a_validator(cls: type) -> None:
    # The SDK calls the interceptor of validators only for updates that have one. A validator that
    # rejects an update from another tenant leaves nothing in the history.
    for update, handler in updates_without_validator(cls):
        update.validator(_accepting(handler))


def _accepting(handler: Callable[..., Any]) -> Callable[..., None]:
    """Returns a validator that accepts every call that fits the signature of `handler`."""
    signature = inspect.signature(handler)

    def accept(*args: object) -> None:
        # A wrong number of arguments in the handler's call would fail the workflow task, and the
        # server would retry it forever. Here it rejects the update.
        try:
            signature.bind(*args)
        except TypeError as error:
            raise InvalidPayload(f"the arguments do not fit the update: {error}.") from None

    # The SDK requires a validator to have its handler's parameters.
    accept.__signature__ = signature  # type: ignore[attr-defined]
    return accept

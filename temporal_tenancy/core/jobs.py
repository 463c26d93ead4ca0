"""Jobs: what a workflow class declares about itself, and the registry of those declarations."""

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
from temporal_tenancy.core.periods import Period

Class = TypeVar("Class", bound=type)
_MARK: Final = "__tenancy_job__"


class JobPriority(IntEnum):
    """Temporal's priority keys: among waiting tasks of one queue, the lower goes first."""

    URGENT = 1
    HIGH = 2
    NORMAL = 3  # what Temporal takes when nothing is said
    LOW = 4
    IDLE = 5


@dataclass(frozen=True)
class Coalesce:
    """How waiting messages of one tenant and one job are worked off together.

    Up to `limit` messages are one workflow and one activity, which calls `handler` for each,
    `parallel` of them at once. `handler` is an async tenant activity that takes the job's input and
    does one message's work.
    """

    limit: int  # messages, at least 1
    handler: Callable[[Any], Awaitable[Any]]  # of the job's own input
    parallel: int = 10  # messages, at least 1


@dataclass(frozen=True)
class Job:
    """A workflow type and what holds for all its runs."""

    name: str  # also the workflow type's name
    kind: Literal["tenant", "platform"]
    queue: str
    priority: JobPriority
    workflow: type = field(repr=False)
    feature: str | None = None  # what the tenant's plan must have
    period: Period | None = None  # None: each run has a key of its own
    statuses: frozenset[TenantStatus] = RUNNABLE  # in which the tenant may run it
    execution_timeout: timedelta | None = None  # over all retries of one run
    waits_out_suspension: bool = False  # where another job is refused
    coalesce: Coalesce | None = None  # None: each message is a workflow of its own
    reason: str = ""  # why a platform job is no tenant's

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.workflow) or self.name).split("\n", 1)[0]

    @cached_property
    def is_asked_for(self) -> bool:
        """Whether it is a tenant's own job, and no other way to do one of those."""
        return self.kind == "tenant" and not issubclass(self.input_model, TenantJobInput)

    @cached_property
    def takes_input(self) -> bool:
        """Whether `run` takes an argument; a tenant's job always does."""
        return len(self._parameters()) > 0

    @cached_property
    def input_model(self) -> type[BaseModel]:
        """The model that `run` takes; `PlatformInput` when it takes none.

        Raises `ConfigurationError` when `run` takes anything else.
        """
        parameters = self._parameters()
        wanted = TenantInput if self.kind == "tenant" else PlatformInput
        if self.kind == "platform" and not parameters:
            return PlatformInput
        try:
            hints = get_type_hints(self._run)
        except NameError as error:
            raise ConfigurationError(
                f"the annotations of {self.workflow.__qualname__}.run ({self.name}) cannot be "
                f"read: {error}. Import at module level what they name."
            ) from None
        model = hints.get(parameters[0].name) if len(parameters) == 1 else None
        if not (isinstance(model, type) and issubclass(model, wanted)):
            raise ConfigurationError(
                f"{self.workflow.__qualname__}.run ({self.name}) must take exactly one argument, "
                f"annotated with a model that extends {wanted.__name__}."
            )
        return model

    def with_period(self, values: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        """`values` (JSON) with the period that they leave out: the key's, or the last whole one.

        Raises `InvalidPayload` where the key names no period, and so could not be of this job.
        """
        if self.period is None:
            return dict(values)
        if key is not None:
            self._check_period("the key", key)
        return {"period": self.period.key_now() if key is None else key, **values}

    def key_of(self, job_input: BaseModel, key: str | None = None) -> str | None:
        """The key of a run: its period, or else what it was given; None: nothing says.

        Raises `InvalidPayload` where the job has a period, and the key is another one or none.
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

    def _check_period(self, what: str, given: str) -> None:
        """Raises `InvalidPayload` where `what`, which was given, names no period of the job's."""
        assert self.period is not None
        try:
            self.period.checked(given)
        except ValueError as error:
            raise InvalidPayload(
                f"{what} of {self.name} is no {self.period} that it works on: {error}. Give one as "
                f'"{self.period.key_now()}".'
            ) from None

    def check(self) -> None:
        """Raises `ConfigurationError` when the declaration could lose a tenant."""
        model = self.input_model
        self._check_model(model)
        if self.coalesce is not None:
            self._check_coalesce(self.coalesce, model)
        if self.period is not None and "period" not in model.model_fields:
            raise ConfigurationError(
                f'{self.name} works on a {self.period}, but {model.__name__} has no field "period".'
            )

    def _check_coalesce(self, coalesce: Coalesce, model: type[BaseModel]) -> None:
        """Refuses a handler that could not take the job's input."""
        what = f"the handler of {self.name}"
        if coalesce.limit < 1 or coalesce.parallel < 1:
            raise ConfigurationError(f"{what} takes at least one message at a time.")
        parameters = inspect.signature(coalesce.handler).parameters
        hints = get_type_hints(coalesce.handler)
        takes = [hints.get(name) for name in parameters]
        if not inspect.iscoroutinefunction(inspect.unwrap(coalesce.handler)) or takes != [model]:
            raise ConfigurationError(
                f"{what} must be async and take exactly one argument, annotated with "
                f"{model.__name__}, the input of the job."
            )

    def _check_model(self, model: type[BaseModel]) -> None:
        """Refuses models that name no tenant for sure, or that are of both kinds."""
        what = f"{model.__name__}, the input of {self.name},"
        if self.kind == "platform":
            if issubclass(model, TenantInput):
                raise ConfigurationError(f"{what} extends TenantInput, but the job is no tenant's.")
            return
        if issubclass(model, PlatformInput):
            raise ConfigurationError(f"{what} extends PlatformInput too. A tenant's job does not.")
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
    """Every job whose module has been imported, by name."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Adds a job; raises `ConfigurationError` when another class has its name."""
        known = self._jobs.get(job.name)
        if known is not None and _path(known.workflow) != _path(job.workflow):
            raise ConfigurationError(
                f"two jobs are called {job.name}: {_path(known.workflow)} and "
                f"{_path(job.workflow)}. Rename one."
            )
        # The sandbox imports again what is not passed through: the first class stays.
        self._jobs.setdefault(job.name, job)

    def get_or_raise(self, name: str) -> Job:
        """Returns the job; raises `UnknownJob`, which lists what there is."""
        job = self._jobs.get(name)
        if job is None:
            known = sorted(job.name for job in self._jobs.values() if job.kind == "tenant")
            raise UnknownJob(f"{name!r} is not a job. There are: {', '.join(known)}.")
        return job

    def __getitem__(self, name: str) -> Job:
        return self._jobs[name]

    def __iter__(self) -> Any:  # Iterator[str]; Mapping's own stub asks for the loose form
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


registry: Final = Registry()


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
) -> Callable[[Class], Class]:
    """Declares a workflow class to be a job that does one tenant's work.

    `run` takes one model that extends `TenantInput`; a job with a `period` has a field `period`
    in it. The decorator takes the place of `@workflow.defn`.

    With `waits_out_suspension`, a run that is under way when its tenant is suspended, or that is
    started then, is not failed but waits. Its activities are paused on the server, where they hold
    no slot and use up no attempt; once the tenant is resumed they go on at their last heartbeat.
    Of those in threads only one that sends heartbeats is interrupted, and a local activity is
    refused: the server cannot pause it. Timeouts that span attempts go on. It is for work that was
    asked for: a fan-out skips suspended tenants, and a child of it that waits keeps its place.

    With `coalesce`, waiting messages of one tenant are worked off together, several in one
    workflow. A run that is started by itself is the class's own.
    """

    def declare(cls: Class) -> Class:
        return _declare(
            cls,
            Job(
                name=job_name(name),
                kind="tenant",
                queue=str(queue),
                priority=priority,
                workflow=cls,
                feature=feature,
                period=period,
                statuses=frozenset(statuses),
                execution_timeout=execution_timeout,
                waits_out_suspension=waits_out_suspension,
                coalesce=coalesce,
            ),
        )

    return declare


def platform_job(
    name: str,
    *,
    reason: str,
    queue: str,
    priority: JobPriority = JobPriority.NORMAL,
    execution_timeout: timedelta | None = None,
) -> Callable[[Class], Class]:
    """Declares a workflow class to be work that is no single tenant's, and says why.

    `run` takes nothing, or one model that extends `PlatformInput`. It enters a tenant only by
    naming it: in the input of a child, or of an activity.
    """

    def declare(cls: Class) -> Class:
        return _declare(
            cls,
            Job(
                name=job_name(name),
                kind="platform",
                queue=str(queue),
                priority=priority,
                workflow=cls,
                execution_timeout=execution_timeout,
                reason=reason,
            ),
        )

    return declare


def job_of(cls: type) -> Job | None:
    """The job that a workflow class was declared to be, if it was."""
    job: Job | None = cls.__dict__.get(_MARK)
    return job


def _declare(cls: Class, job: Job) -> Class:
    registry.add(job)
    _give_updates_a_validator(cls)
    setattr(cls, _MARK, job)
    return workflow.defn(name=job.name)(cls)


def _give_updates_a_validator(cls: type) -> None:
    # Temporal asks the validator's interceptor only where there is a validator. With one, an
    # update that comes from another tenant is rejected and leaves nothing in the history.
    for update, handler in updates_without_validator(cls):
        update.validator(_accepting(handler))


def _accepting(handler: Callable[..., Any]) -> Callable[..., None]:
    """A validator for `handler` that accepts what the interceptors let through and it can take."""
    signature = inspect.signature(handler)

    def accept(*args: object) -> None:
        # With a wrong number of arguments the handler's call would fail the workflow task, which
        # would be retried for ever; here it is a rejection.
        try:
            signature.bind(*args)
        except TypeError as error:
            raise InvalidPayload(f"the update cannot be taken: {error}.") from None

    # The SDK wants a validator to have its handler's parameters.
    accept.__signature__ = signature  # type: ignore[attr-defined]
    return accept

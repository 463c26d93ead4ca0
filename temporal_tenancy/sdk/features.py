"""Features: the parts of the library, or of an application, that a plugin serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.platform_schedules import PlatformSchedule
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.waiting import Waits
from temporal_tenancy.sdk.private_names import activity_definition

Activity = Callable[..., Any]


@dataclass(frozen=True)
class Served:
    """What one worker serves, with the features' own."""

    identity: str  # in Temporal
    queue: str
    workflows: tuple[str, ...]  # names
    activities: tuple[str, ...]  # names


@spelled
@dataclass(frozen=True)
class Feature:
    """A part of the library, or of an application, that `TenancyPlugin` serves.

    A worker that serves any workflows also serves the feature's `workflows` and `activities`. Two
    activity names are special, where a feature has them: a run that fails permanently calls
    `record_failed_run`, and a run that holds a slot calls `free_slot` when it ends
    (`temporal_tenancy.sdk.endings`).
    """

    name: str
    workflows: tuple[type, ...] = ()
    activities: tuple[Activity, ...] = ()
    replayed: tuple[type, ...] = ()  # workflows that are not served, but have histories to replay
    # Makes the context that is entered around each declared activity, before its scope.
    around_activities: Callable[[], AbstractContextManager[object]] | None = None
    migrations: tuple[MigrationEnvironment, ...] = ()  # for its tables, in order
    schedules: tuple[PlatformSchedule, ...] = ()  # of its platform jobs
    # Makes further activities for each worker, which know what it serves.
    of_worker: Callable[[Served], tuple[Activity, ...]] | None = None
    # Returns the worker version on which a client starts a tenant's run on a task queue; None: the
    # current one.
    version_of: Callable[[str, str], Awaitable[WorkerDeploymentVersion | None]] | None = None
    # Makes the context that is entered around the run of each worker, in its event loop.
    around_workers: Callable[[], AbstractAsyncContextManager[object]] | None = None
    # Returns why a tenant's activity cannot begin yet, so that it waits; None: it can.
    waits_for: Waits | None = None
    # Raises `ConfigurationError` for a tenant's job that no worker with this feature can run.
    checks_job: Callable[[Job], None] | None = None
    # Returns the process's metrics in Prometheus' text format, for its health port. It is called
    # in any thread, and asks no server.
    exposes: Callable[[], bytes] | None = None


def serves(features: Iterable[Feature], name: str) -> bool:
    """Whether one of `features` has an activity of this name."""
    return any(
        activity_definition(function).name == name
        for feature in features
        for function in feature.activities
    )


def waits_of(features: Iterable[Feature]) -> Waits:
    """Returns a function that asks each of `features` why a tenant's activity cannot begin yet."""
    asked = [feature.waits_for for feature in features if feature.waits_for is not None]

    def why(tenant: Tenant, job: Job) -> TenancyError | None:
        return next((reason for each in asked if (reason := each(tenant, job)) is not None), None)

    return why


def exposition(features: Iterable[Feature]) -> Callable[[], bytes] | None:
    """Returns what the first of `features` exposes; None if none does."""
    return next((feature.exposes for feature in features if feature.exposes is not None), None)

"""Runs activities for a tenant as a worker does, without a server."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from temporalio.api.common.v1 import Payload
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from temporal_tenancy.core.activities import mark_of
from temporal_tenancy.core.directory import Tenant, TenantDirectory, require_record
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.jobs import Job, JobPriority, job_of, registry
from temporal_tenancy.core.scope import TenantScope
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.interceptors import TenancyInterceptor
from temporal_tenancy.testing._directory import InMemoryDirectory, make_tenant

if TYPE_CHECKING:
    from temporal_tenancy.postgres.database import Database

# Calls the activities of tests that name no job.
_ANY_JOB: Final = Job("test.any", "tenant", "test", JobPriority.NORMAL, object)


class TenantActivityEnvironment:
    """Runs activities in a tenant's scope, through the checks that a worker makes first.

    `current_tenant()`, `current_tenant_record()` and `activity.info()` work inside, and
    `tenant_session()` if there is a database. A tenant that may not run the job is refused as in a
    worker, but waits for no resume.

    Attributes:
        info: what `activity.info()` returns; change it with `dataclasses.replace`.
        headers: what the activity's task carries; `forged_headers()` makes others.
        heartbeats: the details of each heartbeat so far, as tuples.
    """

    def __init__(
        self,
        tenant: Tenant | str,
        *,
        job: type | str | None = None,
        key: str = "test",
        directory: TenantDirectory | None = None,
        database: Database | None = None,
    ) -> None:
        """
        Args:
            tenant: the tenant, or the id of an active one.
            job: the job that calls the activities, as its class or its name; None: a job of any
                tenant that is active or on trial.
            key: the job's key, the last part of the workflow id.
            directory: where the tenant is looked up before each activity; None: one that has only
                `tenant`.
            database: what `tenant_session()` opens; None: it raises.

        Raises:
            ConfigurationError: `job` is no tenant's job.
            UnknownJob: no job of that name has been imported.
        """
        record = make_tenant(tenant) if isinstance(tenant, str) else require_record(tenant)
        self._job = _job(job)
        self._directory = directory or InMemoryDirectory([record])
        self._features = (_sessions(database),) if database is not None else ()
        self._environment = ActivityEnvironment()
        self.heartbeats: list[tuple[Any, ...]] = []
        self._environment.on_heartbeat = lambda *details: self.heartbeats.append(details)
        self.headers: Mapping[str, Payload] = header.write({}, TenantScope(record.id))
        self.info = dataclasses.replace(
            ActivityEnvironment.default_info(),
            workflow_id=f"{record.id}/{self._job.name}/{key}",
            workflow_type=self._job.name,
            task_queue=self._job.queue,
        )

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a declared activity, in the event loop or in a thread, and returns its result.

        Raises:
            ConfigurationError: the function is no activity.
            TenancyError: the activity is refused, as `TenantMismatch` or `TenantSuspended`.
        """
        name = getattr(function, "__name__", type(function).__name__)
        if mark_of(function) is None:
            raise ConfigurationError(
                f"{name} is no declared activity. Put @tenant_activity or @platform_activity on it."
            )
        self._environment.info = dataclasses.replace(self.info, activity_type=name)
        interceptor = TenancyInterceptor(self._directory, self._features)
        inbound = interceptor.intercept_activity(_Call())
        task = ExecuteActivityInput(
            fn=function, args=list(args), executor=None, headers=self.headers
        )
        return await self._environment.run(inbound.execute_activity, task)

    def cancel(self) -> None:
        """Cancels the running activities and those that start later."""
        self._environment.cancel()


class _Call(ActivityInboundInterceptor):
    """The end of the chain, which calls the activity."""

    def __init__(self) -> None: ...

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if inspect.iscoroutinefunction(input.fn):
            return await input.fn(*input.args)
        return await asyncio.to_thread(input.fn, *input.args)


def _job(job: type | str | None) -> Job:
    if job is None:
        if _ANY_JOB.name not in registry:
            registry.add(_ANY_JOB)
        return _ANY_JOB
    found = registry.get_or_raise(job) if isinstance(job, str) else job_of(job)
    if found is None or found.kind != "tenant":
        name = job if isinstance(job, str) else job.__qualname__
        raise ConfigurationError(f"{name} is no tenant's job. Put @tenant_job on it.")
    return found


def _sessions(database: Database) -> Feature:
    def around() -> AbstractContextManager[object]:
        from temporal_tenancy.postgres.database import use_database

        return use_database(database)

    return Feature("sessions", around_activities=around)

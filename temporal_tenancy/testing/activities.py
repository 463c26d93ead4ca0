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

from temporal_tenancy.core.directory import Tenant, TenantDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.jobs import Job, JobPriority, job_of, registry
from temporal_tenancy.core.scope import TenantScope
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk._private import activity_definition
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.interceptors._activity_inbound import TenancyActivityInbound
from temporal_tenancy.sdk.suspension import SuspensionWatch
from temporal_tenancy.testing.directory import InMemoryDirectory, make_tenant

if TYPE_CHECKING:
    from temporal_tenancy.postgres.database import Database

_ANY_JOB: Final = Job("test.job", "tenant", "test", JobPriority.NORMAL, object)


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
        record = make_tenant(tenant) if isinstance(tenant, str) else tenant
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
        try:
            definition = activity_definition(function)
        except TypeError:
            raise ConfigurationError(
                f"{getattr(function, '__qualname__', function)} is no activity. Put "
                "@tenant_activity or @platform_activity on it."
            ) from None
        self._environment.info = dataclasses.replace(
            self.info, activity_type=definition.name or "dynamic"
        )
        inbound = _Inbound(_Call(), self._directory, self._features)
        inbound.job = self._job
        task = ExecuteActivityInput(
            fn=function, args=list(args), executor=None, headers=self.headers
        )
        return await self._environment.run(inbound.execute_activity, task)

    def cancel(self) -> None:
        """Cancels the running activities and those that start later."""
        self._environment.cancel()


class _Inbound(TenancyActivityInbound):
    """The worker's interceptor, for a job that need not be registered."""

    job: Job

    async def _check_state(self, scope: TenantScope) -> tuple[Tenant, SuspensionWatch | None]:
        assert self.directory is not None
        tenant = await self.directory.find(scope.tenant_id)
        return require_runnable(scope.tenant_id, tenant, self.job), None


class _Call(ActivityInboundInterceptor):
    """The end of the chain, which calls the activity."""

    def __init__(self) -> None: ...

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if inspect.iscoroutinefunction(input.fn):
            return await input.fn(*input.args)
        return await asyncio.to_thread(input.fn, *input.args)


def _job(job: type | str | None) -> Job:
    if job is None:
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

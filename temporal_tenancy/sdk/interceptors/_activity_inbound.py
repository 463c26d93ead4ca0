"""The interceptor of activities: it finds the scope, checks the tenant's state, and enters it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from temporal_tenancy.core.activities import ActivityMark, mark_of, named_tenant
from temporal_tenancy.core.directory import (
    Tenant,
    TenantDirectory,
    use_directory,
    use_tenant_record,
)
from temporal_tenancy.core.errors import (
    HopRefused,
    ScopeMissing,
    TenancyError,
    TenantMismatch,
    TenantMissing,
    UnknownJob,
)
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import tenants_named
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.observations import Refused, observe
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope, _begin, _outside
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.core.waiting import use_waits
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.features import Feature, waits_of
from temporal_tenancy.sdk.logs import mark_reported
from temporal_tenancy.sdk.suspension import SuspensionWatch, Waiting

log: Final = logging.getLogger(__name__)


class TenancyActivityInbound(ActivityInboundInterceptor):
    """Runs an activity in the one scope that its carriers agree on, if the tenant may run now."""

    def __init__(
        self,
        next: ActivityInboundInterceptor,
        directory: TenantDirectory | None,
        features: Sequence[Feature] = (),
        exempt: Collection[str] = (),
        client: Client | None = None,
    ) -> None:
        super().__init__(next)
        self.client = client
        self.exempt = exempt
        self.directory = directory
        self.features = features
        self.waits = waits_of(features)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        with _outside():  # the worker may have been started in any scope
            return await self._execute(input)

    async def _execute(self, input: ExecuteActivityInput) -> Any:
        mark = mark_of(input.fn)
        if mark is None and activity.info().activity_type in self.exempt:
            return await self.next.execute_activity(input)  # without a scope no session opens
        try:
            scope = self._scope(mark, input)
            tenant = watch = None
            if isinstance(scope, TenantScope):
                tenant, watch = await self._check_state(scope)
        except TenancyError as error:
            refusal = {"error_type": error.type, "error": error.message}
            log.warning("activity.refused", extra=refusal)
            observe(Refused(error.type or "", "activity"))
            mark_reported(error)
            raise
        async with AsyncExitStack() as stack:
            if watch is not None:  # outside the scope: a tenant's code may not use the directory
                await stack.enter_async_context(watch.watching(cancels=_is_async(input)))
            if tenant is not None:
                stack.enter_context(use_tenant_record(tenant))
            for feature in self.features:
                if feature.around_activities is not None:
                    stack.enter_context(feature.around_activities())
            if self.directory is not None and isinstance(scope, PlatformScope):
                stack.enter_context(use_directory(self.directory))
                stack.enter_context(use_waits(self.waits))
            stack.enter_context(_begin(scope))
            return await self.next.execute_activity(input)

    def _scope(self, mark: ActivityMark | None, input: ExecuteActivityInput) -> Scope:
        info = activity.info()
        if mark is None:  # the plugin refuses it when the worker is built, but another may add it
            raise ScopeMissing(
                f"the activity {info.activity_type} is not declared, and not exempted by name."
            )
        if info.workflow_type in self.exempt:
            raise ScopeMissing(
                f"{info.activity_type} is declared, but {info.workflow_type}, which calls it, is "
                "exempted from tenancy and has no scope to pass on."
            )
        return agreed_scope(mark, input)

    async def _check_state(self, scope: TenantScope) -> tuple[Tenant, SuspensionWatch | None]:
        if self.directory is None:
            raise ScopeMissing(
                f"the state of {scope.tenant_id} cannot be checked: the plugin of this worker has "
                "no directory. Pass it one: TenancyPlugin(directory=...)."
            )
        name = activity.info().workflow_type or ""
        job = registry.get(name)
        if job is None:
            # Retryable, unlike a refusal: in a rolling release another worker may know the job.
            raise ApplicationError(
                f"this worker does not know the job {name!r}, so it cannot tell whether "
                f"{scope.tenant_id} may run it. Import the job's module where the worker is made.",
                type=UnknownJob.__name__,
            )
        watch = self._watch(scope, job, self.directory)
        if watch is not None:
            await watch.pass_or_wait()
        tenant = await self.directory.find(scope.tenant_id)
        runnable = require_runnable(scope.tenant_id, tenant, job)
        if self.waits(runnable, job) is not None:
            client = None if activity.info().is_local else self.client
            waiting = Waiting(client, self.directory, job, scope.tenant_id, self.waits)
            runnable = await waiting.pass_or_fail(runnable)
        return runnable, watch

    def _watch(
        self, scope: TenantScope, job: Job, directory: TenantDirectory
    ) -> SuspensionWatch | None:
        """Returns a watch if the job waits out suspensions and the activity can be paused."""
        if not job.waits_out_suspension or self.client is None or activity.info().is_local:
            return None
        return SuspensionWatch(self.client, directory, job, scope.tenant_id)


def _is_async(input: ExecuteActivityInput) -> bool:
    """Whether the SDK runs the activity in the event loop, and not in a thread."""
    called = getattr(input.fn, "__call__", input.fn)  # noqa: B004  # a callable object
    return inspect.iscoroutinefunction(input.fn) or inspect.iscoroutinefunction(called)


def agreed_scope(mark: ActivityMark, input: ExecuteActivityInput) -> Scope:
    """Returns the scope that the carriers of an activity agree on.

    The carriers are the workflow id, the header and the input. A platform activity that a tenant's
    workflow calls, and a tenant activity that a platform workflow calls, must name the tenant in
    the input.

    Raises:
        HopRefused: the activity has no workflow.
        TenantMismatch: the carriers name different tenants, or cannot be read.
        TenantMissing: no carrier names a tenant, or only the header does where the input must.
        ScopeMissing: a tenant calls a platform activity whose input names no tenant.
    """
    info = activity.info()
    name = info.activity_type
    if info.workflow_id is None:
        raise HopRefused(
            f"{name} was started without a workflow, and tenancy is not carried to standalone "
            "activities. Start it from a job."
        )
    owner = WorkflowId.parse(info.workflow_id).tenant
    carried = header.read(input.headers)
    named = named_tenant(input.args)
    others = tenants_named(list(input.args)) - {owner, named}
    if others and (owner is not None or named is not None):
        raise TenantMismatch(
            f"the input of {name} names {', '.join(sorted(map(str, others)))}, but the activity "
            f"runs for {named or owner}."
        )
    if carried is None and named is None:
        raise TenantMissing(
            f"{name} has neither a header nor an input that names a tenant. Run the worker of "
            f'"{info.workflow_id}" with TenancyPlugin on its client.'
        )
    tenant = carried.tenant_id if isinstance(carried, TenantScope) else named
    if named is not None and tenant != named:
        raise TenantMismatch(f"the input of {name} says {named}, but its header says {tenant}.")
    if owner is not None and tenant is not None and tenant != owner:
        raise TenantMismatch(
            f'{name} was called by "{info.workflow_id}", but would run for {tenant}.'
        )
    if mark.kind == "tenant":
        return _tenant_scope(name, tenant, named, owner)
    if owner is not None and named is None:
        raise ScopeMissing(
            f"{name} is the platform's ({mark.reason}), and {owner} may call it only with an "
            'input that extends TenantInput and names "tenant_id".'
        )
    return PlatformScope(mark.reason)


def _tenant_scope(
    name: str, tenant: str | None, named: str | None, owner: str | None
) -> TenantScope:
    if tenant is None:
        raise TenantMissing(
            f"{name} runs for a tenant, but its workflow is the platform's and names none. "
            'Pass an input that extends TenantInput, with "tenant_id".'
        )
    if owner is None and named is None:
        raise TenantMissing(
            f"{name} names {tenant} only in its header. A platform workflow enters a tenant by "
            'naming it in the input: "tenant_id".'
        )
    return TenantScope(tenant)

"""Jobs that carry scopes out of where they belong, or lead their code into another's."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

from temporal_tenancy.core.inputs import PlatformInput, TenantInput
from temporal_tenancy.core.jobs import platform_job, tenant_job
from temporal_tenancy.core.scope import (
    PlatformScope,
    TenantScope,
    current_scope,
    current_tenant,
    enter,
)
from tests import scope_control
from tests.scope_control import Named, Nothing

SOON = timedelta(seconds=20)


class CarryInput(TenantInput):
    activity: str


@tenant_job("scope.carry", queue="default")
class Carry:
    """Calls one activity of the tenant's, which carries its scope away."""

    @workflow.run
    async def run(self, job: CarryInput) -> Any:
        return await workflow.execute_activity(
            job.activity,
            Nothing(),
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


@platform_job("scope.carry_inner", queue="default", reason="enters tenants by their names")
class CarryInner:
    """Calls an activity of the platform's, which carries a tenant's scope away."""

    @workflow.run
    async def run(self, job: PlatformInput) -> str:
        return await workflow.execute_activity(
            scope_control.leave_a_task_of_an_inner_scope,
            Named(tenant_id="acme"),
            start_to_close_timeout=SOON,
        )


class LeadInput(TenantInput):
    into: str


@tenant_job("scope.lead", queue="default")
class Lead:
    """Leads its own code into another's scope."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, job: LeadInput) -> list[str]:
        if job.into == "generator":
            async for _ in self._entered():
                break
        elif job.into == "platform":
            with enter(PlatformScope("to look around")):
                self.seen.append(str(current_scope()))
        else:
            with enter(TenantScope(job.into)):
                self.seen.append(current_tenant())
        await workflow.sleep(timedelta(milliseconds=1))
        return self.seen

    async def _entered(self) -> Any:
        with enter(TenantScope("acme")):
            self.seen.append(current_tenant())
            yield

    @workflow.query
    def peek_as(self, tenant: str) -> str:
        with enter(TenantScope(tenant)):
            return current_tenant()


@tenant_job("scope.tasks", queue="default")
class Tasks:
    """Waits for a task behind the block in whose scope it was begun."""

    def __init__(self) -> None:
        self.ended = False

    @workflow.run
    async def run(self, job: Named) -> list[str]:
        with enter(TenantScope(job.tenant_id)):
            task = asyncio.create_task(self._wait())
        await workflow.wait_condition(lambda: self.ended)
        return [await task, current_tenant()]

    async def _wait(self) -> str:
        await workflow.wait_condition(lambda: self.ended)
        return current_tenant()

    @workflow.signal
    def end(self) -> None:
        self.ended = True


WORKFLOWS = [Carry, CarryInner, Lead, Tasks]

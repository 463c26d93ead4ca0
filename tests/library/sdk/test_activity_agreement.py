"""An activity runs in the one tenant that its workflow, header and input name, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope, current_scope
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.interceptors._activity_inbound import TenancyActivityInbound
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs import hops as jobs

ACME, GLOBEX, PLATFORM = TenantScope("acme"), TenantScope("globex"), PlatformScope("a test")


class Ran(ActivityInboundInterceptor):
    """The end of the chain: an activity that returns its scope."""

    def __init__(self) -> None: ...

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return current_scope()


async def call(
    function: Callable[..., Any], owner: str, carried: Scope | None, *args: object
) -> Scope:
    """Calls an activity like a workflow of `owner`, with this header and these arguments."""
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(),
        workflow_id=f"{owner}/echo.tell/1",
        workflow_type="echo.tell",
    )
    directory = InMemoryDirectory([make_tenant("acme"), make_tenant("globex")])
    given = ExecuteActivityInput(
        fn=function,
        args=list(args),
        executor=None,
        headers=header.write({}, carried) if carried else {},
    )
    inbound = TenancyActivityInbound(Ran(), directory)
    scope: Scope = await environment.run(inbound.execute_activity, given)
    return scope


TELL, NAMED, PLATFORMS = jobs.tell_tenant, jobs.tell_named_tenant, jobs.tell_platform_of
NOTE = jobs.Note()
OF_ACME, OF_GLOBEX = jobs.NamedNote(tenant_id="acme"), jobs.NamedNote(tenant_id="globex")


@pytest.mark.parametrize(
    ("function", "owner", "carried", "given", "scope"),
    [
        (TELL, "acme", ACME, NOTE, ACME),
        (NAMED, "acme", ACME, OF_ACME, ACME),
        (NAMED, "acme", None, OF_ACME, ACME),
        (NAMED, "platform", ACME, OF_ACME, ACME),
        (PLATFORMS, "acme", ACME, OF_ACME, PlatformScope("changes a tenant's record")),
    ],
)
async def test_carriers_that_agree_name_the_scope(
    function: Any, owner: str, carried: Scope | None, given: object, scope: Scope
) -> None:
    assert await call(function, owner, carried, given) == scope


@pytest.mark.parametrize(
    ("function", "owner", "carried", "given", "error_type"),
    [
        (TELL, "acme", GLOBEX, NOTE, "TenantMismatch"),
        (TELL, "acme", PLATFORM, NOTE, "TenantMissing"),
        (TELL, "acme", None, NOTE, "TenantMissing"),
        (TELL, "platform", ACME, NOTE, "TenantMissing"),
        (NAMED, "acme", ACME, OF_GLOBEX, "TenantMismatch"),
        (NAMED, "acme", GLOBEX, OF_GLOBEX, "TenantMismatch"),
        (NAMED, "platform", GLOBEX, OF_ACME, "TenantMismatch"),
        (PLATFORMS, "acme", ACME, OF_GLOBEX, "TenantMismatch"),
    ],
)
async def test_carriers_that_disagree_run_nothing(
    function: Any, owner: str, carried: Scope | None, given: object, error_type: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        await call(function, owner, carried, given)
    assert caught.value.type == error_type

"""Each hook rejects what cannot carry a tenant, whoever calls it."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from temporal_tenancy.core.errors import HopRefused, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.sdk.interceptors._client_outbound import TenancyClientOutbound
from temporal_tenancy.sdk.interceptors._hooks import HOOKS, Handling
from temporal_tenancy.sdk.interceptors._nexus_inbound import TenancyNexusInbound
from temporal_tenancy.sdk.interceptors._workflow_outbound import TenancyWorkflowOutbound

ACME = TenantScope("acme")
REFUSED = [
    (own, name)
    for _, own, table in HOOKS
    for name, hook in table.items()
    if own is not None and hook.handling is Handling.REFUSES
]


class Outside:
    """The end of the chain, which must not be reached."""

    def __getattr__(self, hook: str) -> Any:
        def taken(input: object) -> NoReturn:
            raise AssertionError(f"{hook} was taken")

        return taken

    def _next_system_nexus_interceptor(self) -> Outside:
        return self


def standing_before(outside: Any, own: type) -> Any:
    """Returns one of our interceptors, for acme."""
    if own is TenancyClientOutbound:
        return TenancyClientOutbound(outside, None)
    if own is TenancyWorkflowOutbound:
        return TenancyWorkflowOutbound(outside, ACME, WorkflowId("acme", "echo.tell", "1"))
    return TenancyNexusInbound(outside)


@pytest.mark.parametrize(("own", "hook"), REFUSED, ids=[f"{o.__name__}.{h}" for o, h in REFUSED])
async def test_a_hop_that_cannot_carry_a_tenant_is_not_taken(own: type, hook: str) -> None:
    asked = SimpleNamespace(
        activity_type="a", operation="o", operation_name="o", ctx=SimpleNamespace(operation="o")
    )

    async def take() -> None:
        answer = getattr(standing_before(Outside(), own), hook)(asked)
        if inspect.isawaitable(answer):
            await answer

    with enter(ACME), pytest.raises((HopRefused, TenantMismatch)):
        await take()

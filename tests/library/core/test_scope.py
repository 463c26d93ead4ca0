"""Scopes are entered and left by token; code without a scope gets an error."""

from __future__ import annotations

import asyncio

import pytest

from temporal_tenancy.core.errors import ScopeMissing, TenantInvalid
from temporal_tenancy.core.scope import (
    PlatformScope,
    TenantScope,
    current_scope,
    current_tenant,
    enter,
)


def test_a_scope_is_left_for_the_one_before_also_after_an_error() -> None:
    with enter(PlatformScope("a test")):
        with pytest.raises(RuntimeError):
            _fail_in(TenantScope("acme"))
        assert current_scope() == PlatformScope("a test")
    assert current_scope() is None


def test_code_that_needs_a_tenant_is_told_where_it_runs() -> None:
    with pytest.raises(ScopeMissing, match="outside any job"):
        current_tenant()
    with enter(PlatformScope("a test")), pytest.raises(ScopeMissing, match=r"platform \(a test\)"):
        current_tenant()


@pytest.mark.parametrize("reason", ["", "  "])
def test_the_platform_needs_a_reason(reason: str) -> None:
    with pytest.raises(ScopeMissing, match="reason"):
        PlatformScope(reason)


def test_a_scope_of_no_tenant_cannot_be_made() -> None:
    with pytest.raises(TenantInvalid):
        TenantScope("platform")


async def test_tasks_side_by_side_keep_their_own_scope() -> None:
    meet = asyncio.Barrier(3)

    async def work(tenant: str) -> str:
        with enter(TenantScope(tenant)):
            await meet.wait()
            return current_tenant()

    assert await asyncio.gather(*map(work, ("a", "b", "c"))) == ["a", "b", "c"]


def _fail_in(scope: TenantScope) -> None:
    with enter(scope):
        assert current_scope() == scope
        raise RuntimeError

"""Activities: whether one works for a tenant or for the platform is declared on it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from temporalio import activity

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.inputs import TenantInput

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK: Final = "__tenancy_activity__"


@dataclass(frozen=True)
class ActivityMark:
    """What an activity was declared to be."""

    kind: Literal["tenant", "platform"]
    reason: str = ""  # why a platform activity is no tenant's


def tenant_activity(function: Function) -> Function:
    """Declares an activity that works for one tenant: `current_tenant()` inside it.

    It runs in the tenant of the workflow that calls it. A platform workflow names the tenant in
    the input instead, which then extends `TenantInput`. The decorator takes the place of
    `@activity.defn`.
    """
    setattr(function, _MARK, ActivityMark("tenant"))
    return activity.defn(function)


def platform_activity(reason: str) -> Callable[[Function], Function]:
    """Declares an activity that works for the platform, and says why.

    A tenant's workflow may call it only with an input that extends `TenantInput` and names that
    same tenant. The decorator takes the place of `@activity.defn`.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError('@platform_activity needs a reason: @platform_activity("…").')

    def declare(function: Function) -> Function:
        setattr(function, _MARK, ActivityMark("platform", reason))
        return activity.defn(function)

    return declare


def mark_of(function: Callable[..., Any]) -> ActivityMark | None:
    """What an activity was declared to be; None when it was not."""
    mark: ActivityMark | None = getattr(inspect.unwrap(function), _MARK, None)
    return mark or getattr(function, _MARK, None)


def named_tenant(args: Any) -> str | None:
    """The tenant that the input of a hop names: that of its only argument, if it has one."""
    if len(args) == 1 and isinstance(args[0], TenantInput):
        return args[0].tenant_id
    return None

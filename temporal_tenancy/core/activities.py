"""Decorators that declare whether an activity works for a tenant or for the platform."""

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

declared: Final[dict[tuple[str, str], Callable[..., Any]]] = {}
"""The activities that this process knows, by module and qualified name: those it has imported."""


@dataclass(frozen=True)
class ActivityMark:
    """The declaration of an activity."""

    kind: Literal["tenant", "platform"]
    reason: str = ""  # why a platform activity belongs to no tenant


def tenant_activity(function: Function) -> Function:
    """Declares an activity that works for one tenant; `current_tenant()` returns its id inside.

    It runs in the scope of the tenant whose workflow calls it. A platform workflow instead names
    the tenant in the activity's input, a model that extends `TenantInput`. Use this decorator in
    place of `@activity.defn`.
    """
    return _declared(function, ActivityMark("tenant"))


def platform_activity(reason: str) -> Callable[[Function], Function]:
    """Declares an activity that works for the platform.

    A tenant's workflow may call it only with an input that extends `TenantInput` and names the
    same tenant. Use this decorator in place of `@activity.defn`.

    Args:
        reason: why the work does not belong to a single tenant, in a few words.

    Raises:
        ConfigurationError: the reason is missing or blank.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError('@platform_activity needs a reason: @platform_activity("…").')

    def declare(function: Function) -> Function:
        return _declared(function, ActivityMark("platform", reason))

    return declare


def _declared(function: Function, mark: ActivityMark) -> Function:
    setattr(function, _MARK, mark)
    made = activity.defn(function)
    # The first one stays: the sandbox imports a workflow's module again for each run.
    name = getattr(function, "__qualname__", None)
    if name is not None:  # an object that can be called has none
        declared.setdefault((function.__module__, name), made)
    return made


def mark_of(function: Callable[..., Any]) -> ActivityMark | None:
    """Returns the declaration of an activity, or None if it has none."""
    mark: ActivityMark | None = getattr(inspect.unwrap(function), _MARK, None)
    return mark or getattr(function, _MARK, None)


def named_tenant(args: Any) -> str | None:
    """Returns the tenant that a call's only argument names; None if it is not a `TenantInput`."""
    if len(args) == 1 and isinstance(args[0], TenantInput):
        return args[0].tenant_id
    return None

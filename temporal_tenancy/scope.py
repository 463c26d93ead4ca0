"""What the running code may touch: one tenant's data, or the platform's, and never neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

from temporal_tenancy.errors import ScopeMissing
from temporal_tenancy.identifiers import PLATFORM, tenant_id


@dataclass(frozen=True)
class TenantScope:
    """One tenant's data, and nothing else."""

    tenant_id: str

    def __post_init__(self) -> None:
        tenant_id(self.tenant_id)

    @property
    def owner(self) -> str:
        """The first segment of this scope's workflow ids, and its fairness key."""
        return self.tenant_id

    def __str__(self) -> str:
        return f"tenant {self.tenant_id}"


@dataclass(frozen=True)
class PlatformScope:
    """Work that is no single tenant's, and the reason for it."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ScopeMissing("platform work needs a reason: say in a few words what it is for.")

    @property
    def owner(self) -> str:
        """The first segment of this scope's workflow ids, and its fairness key."""
        return PLATFORM

    def __str__(self) -> str:
        return f"the platform ({self.reason})"


Scope = TenantScope | PlatformScope
Value = TypeVar("Value")

_current: Final[ContextVar[Scope | None]] = ContextVar("temporal_tenancy_scope", default=None)


@contextmanager
def held(variable: ContextVar[Value], value: Value) -> Iterator[None]:
    """Gives `variable` the value inside the block, and what it had after it, by token."""
    token = variable.set(value)
    try:
        yield
    finally:
        # A coroutine that is thrown away unfinished (a workflow that leaves the worker's cache)
        # is closed in another context: the one that was set here is gone with its task.
        with suppress(ValueError):
            variable.reset(token)


@contextmanager
def enter(scope: Scope) -> Iterator[Scope]:
    """Runs the block in `scope`, and returns to whatever was before, also after an error."""
    with held(_current, scope):
        yield scope


def outside() -> AbstractContextManager[None]:
    """Runs the block in no scope at all, whatever the code that calls it runs in."""
    return held(_current, None)


def current_scope() -> Scope | None:
    """The scope this code runs in; None outside any job."""
    return _current.get()


def current_tenant() -> str:
    """The tenant this code works for; raises `ScopeMissing` where there is none."""
    scope = _current.get()
    if isinstance(scope, TenantScope):
        return scope.tenant_id
    where = "outside any job" if scope is None else f"in the scope of {scope}"
    raise ScopeMissing(
        f"this code needs a tenant, but runs {where}. "
        "Run it in a tenant job, or name the tenant with enter(TenantScope(...))."
    )

"""Scopes: whether the running code acts for one tenant or for the platform."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from temporalio import activity, workflow

from temporal_tenancy.core.errors import ScopeMissing, TenancyError, TenantMismatch
from temporal_tenancy.core.identifiers import PLATFORM, tenant_id
from temporal_tenancy.core.scoped_value import Block, ScopedValue, is_enforced


@dataclass(frozen=True)
class TenantScope:
    """Access to one tenant's data and nothing else.

    Raises:
        TenantMissing: the tenant id is empty.
        TenantInvalid: it is malformed or reserved.
    """

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
    """Work that does not belong to a single tenant, with the reason for it.

    Raises:
        ScopeMissing: the reason is blank, or no text.
    """

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason.strip():
            raise ScopeMissing("platform work needs a reason. Say in a few words what it is for.")

    @property
    def owner(self) -> str:
        """The first segment of this scope's workflow ids, and its fairness key."""
        return PLATFORM

    def __str__(self) -> str:
        return f"the platform ({self.reason})"


Scope = TenantScope | PlatformScope
"""Whose work some code does: one tenant's, or the platform's."""

_current: Final[ScopedValue[Scope]] = ScopedValue("temporal_tenancy_scope", "the scope")

log: Final = logging.getLogger(__name__)


class _Entry(Block[Scope]):
    """A block that runs in a scope."""

    __slots__ = ("reported",)

    def __init__(self, scoped_value: ScopedValue[Scope], value: Scope) -> None:
        super().__init__(scoped_value, value)
        self.reported = False  # whether a use after the end has been logged

    def __enter__(self) -> Scope:
        self.check_generator(sys._getframe(1))
        around = current_scope()
        if isinstance(around, TenantScope) and around != self.value and is_enforced():
            raise _foreign_scope(around, self.value)
        self.outer = _current.variable.get()
        self.begin()
        return self.value


class _First(_Entry):
    """The block in which a job's own code, a handler or an activity starts."""

    __slots__ = ()

    def __enter__(self) -> Scope:
        self.begin()
        return self.value


def enter(scope: Scope) -> AbstractContextManager[Scope]:
    """Returns a context manager that runs its block in `scope`.

    Leaving the block restores the previous scope, also after an error, and closes this one: a
    task, thread, generator or callback that outlives the block can no longer use it.

    Args:
        scope: a `TenantScope` or a `PlatformScope`.

    Raises:
        ScopeMissing: `scope` is neither, such as the id of a tenant.

    Raises (on entering the block):
        TenantMismatch: this code runs in the scope of another tenant.
        ScopeMissing: this code runs in a tenant's scope and asks for the platform's; or its own
            scope is closed; or it is a generator that is not a context manager.
    """
    if not isinstance(scope, Scope):
        raise ScopeMissing(
            "enter() takes a TenantScope or a PlatformScope, and this is a "
            f"{type(scope).__name__}. Write enter(TenantScope(...)) with the tenant's id, or "
            "enter(PlatformScope(...)) with a reason."
        )
    return _Entry(_current, scope)


def _begin(scope: Scope) -> AbstractContextManager[Scope]:
    """Like `enter`, but from any scope; the library uses it where a hop begins."""
    return _First(_current, scope)


@contextmanager
def _outside() -> Iterator[None]:
    """Runs the block without a scope, for the library's own work."""
    token = _current.variable.set(None)
    try:
        yield
    finally:
        with suppress(ValueError):  # for the same reason as in Block.__exit__
            _current.variable.reset(token)


def current_scope() -> Scope | None:
    """Returns the scope that this code runs in, or None outside any job.

    Raises:
        ScopeMissing: the scope is closed, because the block that entered it has ended.
    """
    entry = _current.variable.get()
    if entry is None:
        return None
    around: Block[Scope] | None = entry
    while around is not None:
        if around.ended:
            _refuse_closed(entry, around)
            break
        around = around.outer
    scope: Scope = entry.value
    return scope


def last_scope() -> Scope | None:
    """Like `current_scope`, but returns a closed scope instead of raising; for logs and errors."""
    return _current.peek()


def current_tenant() -> str:
    """Returns the id of the tenant that this code works for.

    Raises:
        ScopeMissing: this code does not run in a tenant's scope, or that scope is closed.
    """
    scope = current_scope()
    if isinstance(scope, TenantScope):
        return scope.tenant_id
    where = "outside any job" if scope is None else f"in the scope of {scope}"
    raise ScopeMissing(
        f"this code needs a tenant, but runs {where}. "
        "Run it in a tenant job, or name the tenant with enter(TenantScope(...))."
    )


# The name under which it is public: Django writes a column's default into migrations by it.
current_tenant.__module__ = "temporal_tenancy"


def _refuse_closed(entry: Block[Scope], ended: Block[Scope]) -> None:
    """Raises `ScopeMissing` for code in the block `entry`; `ended` is it or one around it."""
    # A workflow's tasks end with its run, and their commands are checked against its workflow id.
    if workflow.in_workflow():
        return
    _report(ended)
    raise ScopeMissing(
        f"this code still runs in the scope of {entry.value}, which is closed: the activity, "
        "request or block that started it has ended. Wait for it there (as asyncio.TaskGroup "
        "does), or enqueue a job for the rest."
    )


def _report(entry: Block[Scope]) -> None:
    """Counts each use of a closed scope and logs the first."""
    fields: dict[str, str] = {}
    if isinstance(entry.value, TenantScope):
        fields["tenant_id"] = entry.value.tenant_id
    if activity.in_activity():  # still true after the activity has ended
        fields["job"] = activity.info().workflow_type or ""
        activity.metric_meter().create_counter(
            "tenancy_scopes_used_after_close", "Uses of a scope whose activity has ended"
        ).add(1)
    if isinstance(entry, _Entry) and not entry.reported:
        entry.reported = True
        log.warning("scope.used_after_close", extra=fields)


def _foreign_scope(scope: TenantScope, wanted: Scope) -> TenancyError:
    if isinstance(wanted, TenantScope):
        return TenantMismatch(
            f"this code works for {scope} and cannot enter the scope of {wanted}. Do it in a job "
            f"of {wanted.tenant_id}, or in a platform activity, which enters each tenant by name."
        )
    return ScopeMissing(
        f"this code works for {scope} and cannot enter the scope of {wanted}. "
        "Do it in a platform activity."
    )

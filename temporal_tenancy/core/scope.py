"""What the running code may touch: one tenant's data, or the platform's, and never neither."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from temporalio import activity, workflow

from temporal_tenancy.core.errors import ScopeMissing, TenancyError, TenantMismatch
from temporal_tenancy.core.held import Block, Held, applies
from temporal_tenancy.core.identifiers import PLATFORM, tenant_id


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

_current: Final[Held[Scope]] = Held("temporal_tenancy_scope", "the scope")

log: Final = logging.getLogger(__name__)


class _Entry(Block[Scope]):
    """A block that runs in a scope."""

    __slots__ = ("told",)

    def __init__(self, held: Held[Scope], value: Scope) -> None:
        super().__init__(held, value)
        self.told = False  # that it was used behind its end

    def __enter__(self) -> Scope:
        self.heed_generator(sys._getframe(1))
        around = current_scope()
        if isinstance(around, TenantScope) and around != self.value and applies():
            raise _foreign(around, self.value)
        self.outer = _current.variable.get()
        self.begin()
        return self.value


class _First(_Entry):
    """The block that a job's own code, a handler or an activity begins with."""

    __slots__ = ()

    def __enter__(self) -> Scope:
        self.begin()
        return self.value


def enter(scope: Scope) -> AbstractContextManager[Scope]:
    """Runs the block in `scope`, and returns to whatever was before, also after an error.

    When the block has ended, its scope is closed: a task, thread, generator or callback that was
    carried out of it is refused from then on. Entering raises:

        TenantMismatch: this code works for another tenant, whose code nobody leads out of it.
        ScopeMissing: it works for a tenant and would be the platform, its own scope is closed, or
            it is a generator that is no context manager.
    """
    return _Entry(_current, scope)


def _begin(scope: Scope) -> AbstractContextManager[Scope]:
    """As `enter`, whatever the code that calls it runs in: for the library, where a hop begins."""
    return _First(_current, scope)


@contextmanager
def _outside() -> Iterator[None]:
    """Runs the block in no scope at all: for the library, whose own work it is."""
    token = _current.variable.set(None)
    try:
        yield
    finally:
        with suppress(ValueError):  # as where a block is left
            _current.variable.reset(token)


def current_scope() -> Scope | None:
    """The scope this code runs in; None outside any job.

    Raises `ScopeMissing` where the scope is closed: the block that entered it has ended.
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
    """As `current_scope`, and the closed one where it is closed: for what is told of this code."""
    return _current.last()


def current_tenant() -> str:
    """The tenant this code works for.

    Raises `ScopeMissing` where there is none, or where the scope is closed.
    """
    scope = current_scope()
    if isinstance(scope, TenantScope):
        return scope.tenant_id
    where = "outside any job" if scope is None else f"in the scope of {scope}"
    raise ScopeMissing(
        f"this code needs a tenant, but runs {where}. "
        "Run it in a tenant job, or name the tenant with enter(TenantScope(...))."
    )


def _refuse_closed(entry: Block[Scope], ended: Block[Scope]) -> None:
    """Raises `ScopeMissing` for code in the block of `entry`: `ended` is it, or one around it."""
    # A run's tasks end with the run, and what they do is checked against its workflow id.
    if workflow.in_workflow():
        return
    _tell(ended)
    raise ScopeMissing(
        f"this code still runs in the scope of {entry.value}, which is closed: the activity, "
        "request or block that it was started in has ended. Wait for it there (as "
        "asyncio.TaskGroup does), or ask for a job to do the rest."
    )


def _tell(entry: Block[Scope]) -> None:
    """Counts a use of a closed scope, and logs the first."""
    fields: dict[str, str] = {}
    if isinstance(entry.value, TenantScope):
        fields["tenant_id"] = entry.value.tenant_id
    if activity.in_activity():  # also behind its end
        fields["job"] = activity.info().workflow_type or ""
        activity.metric_meter().create_counter(
            "tenancy_scopes_used_after_close", "Uses of a scope whose activity has ended"
        ).add(1)
    if isinstance(entry, _Entry) and not entry.told:
        entry.told = True
        log.warning("scope.used_after_close", extra=fields)


def _foreign(scope: TenantScope, wanted: Scope) -> TenancyError:
    if isinstance(wanted, TenantScope):
        return TenantMismatch(
            f"this code works for {scope} and cannot enter the scope of {wanted}. Do it in a job "
            f"of {wanted.tenant_id}'s, or in a platform activity, which enters each tenant by name."
        )
    return ScopeMissing(
        f"this code works for {scope} and cannot enter the scope of {wanted}. "
        "Do it in a platform activity."
    )

"""What happens in this process, for whoever measures it.

The library says what it does by `observe()`; without observers that costs one comparison. What an
observation carries is bounded, but for the tenant: whoever keeps it must bound that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal

log: Final = logging.getLogger(__name__)


AttemptOutcome = Literal["succeeded", "failed", "cancelled", "deferred"]
RunOutcome = Literal["succeeded", "failed", "cancelled", "continued"]
Place = Literal["workflow", "activity", "message", "client"]
StartOutcome = Literal["started", "already", "retried", "dead", "away", "released"]


@dataclass(frozen=True, slots=True)
class Work:
    """The attempt of an activity that some code runs in."""

    tenant_id: str | None  # None: the platform's
    plan: str | None  # of the tenant
    job: str  # the workflow type
    queue: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt of an activity has ended."""

    work: Work
    outcome: AttemptOutcome
    seconds: float  # in its slot
    error_type: str | None  # of the root cause, if it failed


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run of a job has ended on this worker; a replay is none."""

    tenant_id: str | None  # None: the platform's
    job: str
    queue: str
    outcome: RunOutcome
    seconds: float  # since its start


@dataclass(frozen=True, slots=True)
class Refused:
    """A rule of tenancy was violated, and the call was refused."""

    error_type: str  # of a `TenancyError`
    where: Place


@dataclass(frozen=True, slots=True)
class ConnectionHeld:
    """A session has returned its connection to the pool, or a tenant's transaction has ended."""

    pool: Literal["tenant", "platform", "application"]  # the last: a connection of its own
    tenant_id: str | None
    job: str | None  # None: outside any job
    seconds: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """A relay has claimed messages."""

    messages: int
    seconds: float  # that its statements took


@dataclass(frozen=True, slots=True)
class StartTried:
    """A relay has tried to start the workflow of one or more messages."""

    job: str
    outcome: StartOutcome
    lag: float | None  # seconds from when the oldest became due until now; None: not its first try


Observation = AttemptEnded | RunEnded | Refused | ConnectionHeld | Claimed | StartTried
Observer = Callable[[Observation], None]
"""Is called in any thread and any context; it must be quick, and do no I/O."""

_observers: tuple[Observer, ...] = ()
working: Final[ContextVar[Work | None]] = ContextVar("temporal_tenancy_work", default=None)
"""The attempt that the running code is part of. It is set only while somebody observes."""


def add_observer(observer: Observer) -> None:
    """Calls `observer` with each observation from now on; adding it twice changes nothing."""
    global _observers
    if observer not in _observers:
        _observers = (*_observers, observer)


def remove_observer(observer: Observer) -> None:
    """Calls `observer` no more."""
    global _observers
    _observers = tuple(each for each in _observers if each != observer)


def is_observed() -> bool:
    """Whether anybody observes: what is slow to find out is for them alone."""
    return bool(_observers)


def observe(observation: Observation) -> None:
    """Tells the observers; an error of theirs is logged, and changes nothing for the caller."""
    for observer in _observers:
        try:
            observer(observation)
        except Exception:
            log.exception("observer.failed")

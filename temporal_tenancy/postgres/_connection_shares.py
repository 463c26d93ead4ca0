"""Shares a connection pool fairly: which tenant gets the next connection, and how many at most.

No tenant can use all of a pool's connections: some stay free for others, so that their work runs
while this tenant's waits for a lock. Waiting tenants are served round-robin. Code that already
holds a connection never waits for a second one, since holders could deadlock waiting for each
other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from temporal_tenancy.core.observations import Work, working
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.postgres.database_errors import (
    PoolExhausted,
    PoolShareExceeded,
    PoolShareInUse,
)
from temporal_tenancy.postgres.pool_share import PoolShare

FORGIVEN: Final = 60.0  # seconds after which a blocked tenant's sessions may wait again
SHOWN: Final = 5  # owners in a sentence
NOBODY: Final = "code outside a session"


@dataclass(eq=False)
class Holder:
    """A session's claim on the pool."""

    shares: ConnectionShares
    owner: str  # whose work it is, as errors name it: "tenant ua", "the platform"
    outer: Holder | None  # the enclosing session's claim
    connections: int = 0  # held now
    tenant_id: str | None = None  # None: the owner is no tenant
    work: Work | None = None  # that opened the session, while somebody observes
    store: str | None = None  # the name of the tenant's store; None: the shared one
    most: int | None = None  # connections of the owner, by its plan; None: the plan is not known

    def progressed(self) -> None:
        """Records that one of the owner's transactions has committed."""
        if self.connections:
            self.shares.progressed(self.owner)


_holder: Final[ContextVar[Holder | None]] = ContextVar("temporal_tenancy_holder", default=None)


def current_store() -> str | None:
    """The name of the store of the session open here; None: the shared one, or no session."""
    holder = _holder.get()
    return None if holder is None else holder.store


@dataclass(eq=False)
class _Waiter:
    """One session that waits for a connection."""

    woken: asyncio.Future[None]
    granted: bool | None = None  # None: still waiting; False: gave up, since the work is blocked


@dataclass(eq=False)
class _Owner:
    """The connections that one tenant uses and waits for."""

    most: int  # it may hold
    held: int = 0
    waiting: deque[_Waiter] = field(default_factory=deque)
    progress: float = 0.0  # clock time of its last commit
    blocked: float | None = None  # clock time since which its work counts as blocked


class ConnectionShares:
    """Grants a pool's connections to owners; it belongs to one event loop and opens none itself."""

    def __init__(self, share: PoolShare, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        self._clock = clock
        self._free = share.size
        self._owners: dict[str, _Owner] = {}
        # Owners with waiting sessions, each once. If a connection is free, all of them are at their
        # limit.
        self._turns: deque[str] = deque()
        self._granting = False

    @property
    def held(self) -> dict[str, int]:
        """The number of connections that each owner uses now; owners with none are left out."""
        return {name: owner.held for name, owner in list(self._owners.items()) if owner.held}

    @property
    def waiting(self) -> dict[str, int]:
        """The number of each owner's sessions that wait now; owners with none are left out."""
        # A copy: another thread, which measures, may read while the loop changes it.
        waiting = {name: len(owner.waiting) for name, owner in list(self._owners.items())}
        return {name: count for name, count in waiting.items() if count}

    @contextmanager
    def holder(
        self,
        owner: str,
        tenant_id: str | None = None,
        store: str | None = None,
        most: int | None = None,
    ) -> Iterator[Holder]:
        """Attributes the connections that the block takes to `owner`.

        `most`: how many it may hold in all, from now on; None: as many as before.
        """
        holder = Holder(
            self,
            owner,
            _holder.get(),
            tenant_id=tenant_id,
            work=working.get(),
            store=store,
            most=most,
        )
        token = _holder.set(holder)
        try:
            yield holder
        finally:
            with suppress(ValueError):  # closed in another context than it was opened in
                _holder.reset(token)

    def current(self) -> Holder:
        """Returns the claim of the session open here, or a new claim of `NOBODY` without one."""
        holder = _holder.get()
        if holder is None or holder.shares is not self:
            return Holder(self, NOBODY, holder)
        return holder

    def take(self, holder: Holder) -> bool:
        """Grants a connection if the owner may have one now; returns whether it did.

        Raises:
            PoolShareExceeded: none is available, and this code already holds one.
            PoolShareInUse: none is available, and the owner's own work is blocked.
        """
        owner = self._owner_of(holder)
        if self._free and owner.held < owner.most:
            self._grant(owner)
            holder.connections += 1
            return True
        try:
            if self._holds(holder):
                raise PoolShareExceeded(
                    f"{holder.owner} opened a session inside another one while "
                    f"{self._in_use(owner)}, and would deadlock. End the outer session first, or "
                    "use it for this work too."
                )
            if owner.held >= owner.most and self._is_blocked(owner):
                raise self._blocked(holder.owner, owner)
        finally:
            self._forget(holder.owner, owner)
        return False

    async def wait(self, holder: Holder) -> None:
        """Waits until a connection is granted.

        Raises:
            PoolShareInUse: the owner's own work uses its whole share and makes no progress.
            PoolExhausted: other owners use all connections for the pool's `timeout`.
        """
        name = holder.owner
        owner = self._owner_of(holder)
        waiter = _Waiter(asyncio.get_running_loop().create_future())
        if not owner.waiting:
            self._turns.append(name)
        owner.waiting.append(waiter)
        try:
            await self._until_granted(name, owner, waiter)
            holder.connections += 1
        except BaseException:
            if waiter.granted:
                self._return(name)
            raise
        finally:
            if waiter in owner.waiting:
                owner.waiting.remove(waiter)
                if not owner.waiting:
                    self._turns.remove(name)
            self._forget(name, owner)

    def give_back(self, holder: Holder) -> None:
        """Returns a granted connection, and grants it to the next waiting session."""
        holder.connections -= 1
        self._return(holder.owner)

    def progressed(self, name: str) -> None:
        """Records that one of the owner's transactions has committed: its work is not blocked."""
        owner = self._owners.get(name)
        if owner is not None:
            owner.progress = self._clock()
            owner.blocked = None

    def _owner_of(self, holder: Holder) -> _Owner:
        """Returns the holder's owner, with the limit of the plan that was known last."""
        owner = self._owners.setdefault(holder.owner, _Owner(self.share.most))
        if holder.most is not None and holder.most != owner.most:
            owner.most = holder.most
            self._grant_what_is_free()
        return owner

    async def _until_granted(self, name: str, owner: _Owner, waiter: _Waiter) -> None:
        began = self._clock()
        while waiter.granted is None:
            now = self._clock()
            given_up_at = began + self.share.timeout
            blocked_at = max(owner.progress, began) + self.share.patience
            at_limit = owner.held >= owner.most
            if at_limit and now >= blocked_at:
                owner.blocked = now
                for other in owner.waiting:
                    _wake(other, False)
                break
            if now >= given_up_at:
                if at_limit:
                    raise self._blocked(name, owner)
                waited = duration(timedelta(seconds=self.share.timeout))
                raise PoolExhausted(
                    f"{name} waited {waited} for a connection, but {self._in_use(owner)}. "
                    f"{self._who_holds_them()}. Try again; if this happens often, give this "
                    "process more connections."
                )
            # Also checked in between: the owner may reach its limit only while this session waits.
            next_check = min(given_up_at, blocked_at if at_limit else now + self.share.patience)
            await asyncio.wait((waiter.woken,), timeout=next_check - now)
        if not waiter.granted:
            raise self._blocked(name, owner)

    def _holds(self, holder: Holder | None) -> bool:
        while holder is not None:
            if holder.shares is self and holder.connections:
                return True
            holder = holder.outer
        return False

    def _is_blocked(self, owner: _Owner) -> bool:
        if owner.blocked is not None and self._clock() - owner.blocked >= FORGIVEN:
            owner.blocked = None
        return owner.blocked is not None

    def _grant(self, owner: _Owner) -> None:
        self._free -= 1
        owner.held += 1

    def _return(self, name: str) -> None:
        owner = self._owners[name]
        self._free += 1
        owner.held -= 1
        self._grant_what_is_free()
        self._forget(name, owner)

    def _grant_what_is_free(self) -> None:
        if self._granting:
            return  # garbage collection can return a connection while this runs
        self._granting = True
        try:
            while self._free and (name := self._next()) is not None:
                owner = self._owners[name]
                waiter = owner.waiting.popleft()
                if owner.waiting:
                    self._turns.append(name)
                if waiter.granted is None:
                    self._grant(owner)
                    _wake(waiter, True)
        finally:
            self._granting = False

    def _next(self) -> str | None:
        """Removes from the queue, and returns, the first owner that may have one more."""
        for name in self._turns:
            if self._owners[name].held < self._owners[name].most:
                self._turns.remove(name)
                return name
        return None

    def _forget(self, name: str, owner: _Owner) -> None:
        if not owner.held and not owner.waiting and owner.blocked is None:
            self._owners.pop(name, None)

    def _blocked(self, name: str, owner: _Owner) -> PoolShareInUse:
        return PoolShareInUse(
            f"{name}'s own work holds {number(owner.held, 'connection')}, of the "
            f"{owner.most} it may use of this process's {self.share.size}, and makes no "
            "progress. Try again later; pg_locks and pg_stat_activity show what it waits for."
        )

    def _in_use(self, owner: _Owner) -> str:
        return (
            f"{self.share.size - self._free} of this process's "
            f"{number(self.share.size, 'connection')} are in use, {owner.held} of them its own "
            f"(limit {owner.most})"
        )

    def _who_holds_them(self) -> str:
        most = sorted(self.held.items(), key=lambda owner: -owner[1])
        shown = ", ".join(f"{name} ({count})" for name, count in most[:SHOWN])
        more = f" and {number(len(most) - SHOWN, 'other')}" if len(most) > SHOWN else ""
        return f"They are held by {shown}{more}"


def _wake(waiter: _Waiter, granted: bool) -> None:
    """Wakes a waiting session; safe from another thread, where garbage collection may run."""
    if waiter.granted is not None:
        return
    waiter.granted = granted
    loop = waiter.woken.get_loop()
    if asyncio._get_running_loop() is loop:
        _end(waiter)
    else:
        loop.call_soon_threadsafe(_end, waiter)


def _end(waiter: _Waiter) -> None:
    if not waiter.woken.done():
        waiter.woken.set_result(None)

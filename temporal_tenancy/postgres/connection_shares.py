"""Who of a pool's tenants gets the next connection, and how many one may hold.

No tenant holds all of a pool's connections: some are kept from it, so that another's work goes on
while this one's waits for a lock. Who waits is served tenant by tenant in turns. Who holds a
connection already never waits for a second one: all who hold could be waiting for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from temporal_tenancy.postgres.database_errors import (
    PoolExhausted,
    PoolShareExceeded,
    PoolShareInUse,
)
from temporal_tenancy.postgres.pool_share import PoolShare

FORGIVEN: Final = 60.0  # seconds after which a blocked tenant is waited for again
NOBODY: Final = "code outside a session"


@dataclass(eq=False)
class Holder:
    """A session's claim on the pool."""

    shares: ConnectionShares
    owner: str  # whose work it is, in words
    outer: Holder | None  # of the session that was open around it
    connections: int = 0

    def progressed(self) -> None:
        """Says that a transaction has ended well."""
        if self.connections:
            self.shares.progressed(self.owner)


_holder: Final[ContextVar[Holder | None]] = ContextVar("temporal_tenancy_holder", default=None)


@dataclass(eq=False)
class _Waiter:
    """Who waits for a connection."""

    woken: asyncio.Future[None]
    granted: bool | None = None  # False: given up


@dataclass(eq=False)
class _Owner:
    """What one tenant holds and waits for."""

    held: int = 0
    waiting: deque[_Waiter] = field(default_factory=deque)
    progress: float = 0.0  # when a transaction of its last ended well
    blocked: float | None = None  # since when its work is taken to be blocked


class ConnectionShares:
    """Grants a pool's connections. It belongs to one event loop, and makes none itself."""

    def __init__(self, share: PoolShare, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        self._clock = clock
        self._free = share.size
        self._owners: dict[str, _Owner] = {}
        # Who waits, each once. While a connection is free, all of these hold their share.
        self._turns: deque[str] = deque()
        self._granting = False

    @property
    def held(self) -> dict[str, int]:
        """How many connections each owner holds now."""
        return {name: owner.held for name, owner in self._owners.items() if owner.held}

    @property
    def waiting(self) -> dict[str, int]:
        """How many of each owner's sessions wait for a connection now."""
        waiting = {name: len(owner.waiting) for name, owner in self._owners.items()}
        return {name: count for name, count in waiting.items() if count}

    @contextmanager
    def holder(self, owner: str) -> Iterator[Holder]:
        """Makes the connections of the block those of a session of `owner`."""
        holder = Holder(self, owner, _holder.get())
        token = _holder.set(holder)
        try:
            yield holder
        finally:
            with suppress(ValueError):  # closed in another context, which has gone
                _holder.reset(token)

    def current(self) -> Holder:
        """The claim of the session that is open here; one of nobody's where there is none."""
        holder = _holder.get()
        if holder is None or holder.shares is not self:
            return Holder(self, NOBODY, holder)
        return holder

    def take(self, holder: Holder) -> bool:
        """Grants a connection if there is one for its owner now.

        Raises:
            PoolShareExceeded: there is none, and this code holds one already.
            PoolShareInUse: there is none, and the owner's own work is blocked.
        """
        owner = self._owners.setdefault(holder.owner, _Owner())
        if self._free and owner.held < self.share.most:
            self._grant(owner)
            holder.connections += 1
            return True
        try:
            if self._holds(holder):
                raise PoolShareExceeded(
                    f"{holder.owner} opened a session inside another one while "
                    f"{self._in_use(owner)}, and would wait for itself. End the outer session "
                    "first, or do it in the same one."
                )
            if owner.held >= self.share.most and self._is_blocked(owner):
                raise self._blocked(holder.owner, owner)
        finally:
            self._forget(holder.owner, owner)
        return False

    async def wait(self, holder: Holder) -> None:
        """Waits until a connection is granted.

        Raises:
            PoolShareInUse: the owner's own work holds its share, and does not get on.
            PoolExhausted: the work of others holds all connections.
        """
        name = holder.owner
        owner = self._owners.setdefault(name, _Owner())
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
        """Takes a granted connection back, and grants it to who is next."""
        holder.connections -= 1
        self._return(holder.owner)

    def progressed(self, name: str) -> None:
        """Says that a transaction of the owner's has ended well: its work is not blocked."""
        owner = self._owners.get(name)
        if owner is not None:
            owner.progress = self._clock()
            owner.blocked = None

    async def _until_granted(self, name: str, owner: _Owner, waiter: _Waiter) -> None:
        began = self._clock()
        while waiter.granted is None:
            now = self._clock()
            given_up_at = began + self.share.timeout
            blocked_at = max(owner.progress, began) + self.share.patience
            its_own = owner.held >= self.share.most
            if its_own and now >= blocked_at:
                owner.blocked = now
                for each in owner.waiting:
                    _wake(each, False)
                break
            if now >= given_up_at:
                if its_own:
                    raise self._blocked(name, owner)
                raise PoolExhausted(
                    f"{name} waited {self.share.timeout:.0f} s for a connection, and "
                    f"{self._in_use(owner)}. Try again; if it happens often, give this process "
                    "more connections."
                )
            # Woken in between too: its share may be used up only while it waits.
            next_look = min(given_up_at, blocked_at if its_own else now + self.share.patience)
            await asyncio.wait((waiter.woken,), timeout=next_look - now)
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
            return  # a connection that is collected as garbage comes back in the middle of this
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
        """Takes out of its turn the first owner that may have one more."""
        for name in self._turns:
            if self._owners[name].held < self.share.most:
                self._turns.remove(name)
                return name
        return None

    def _forget(self, name: str, owner: _Owner) -> None:
        if not owner.held and not owner.waiting and owner.blocked is None:
            self._owners.pop(name, None)

    def _blocked(self, name: str, owner: _Owner) -> PoolShareInUse:
        return PoolShareInUse(
            f"{name}'s own work holds {owner.held} connections, of the {self.share.most} it may "
            f"have of this process's {self.share.size}, and does not get on. Try again later; "
            "pg_locks and pg_stat_activity say what it waits for."
        )

    def _in_use(self, owner: _Owner) -> str:
        return (
            f"{self.share.size - self._free} of {self.share.size} connections of this process are "
            f"in use, {owner.held} of them its own (of {self.share.most} at most)"
        )


def _wake(waiter: _Waiter, granted: bool) -> None:
    """Tells who waits; also from another thread, in which garbage may be collected."""
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

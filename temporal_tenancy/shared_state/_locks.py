"""A tenant's locks: one holder at a time in Redis, and a fence that the database checks.

Redis says who may begin, and the database who may write. A holder that was stopped for longer than
its lock lives believes that it still has it; the transaction in which it checks the fence refuses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.errors import ConfigurationError, TenantMismatch
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.outbox.awaiting import in_block
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.postgres.raw_session import RawSession
from temporal_tenancy.shared_state._errors import (
    LockLost,
    LockTaken,
    LockUnavailable,
    SharedStateUnavailable,
)
from temporal_tenancy.shared_state._fences import newest_token, take_token
from temporal_tenancy.shared_state._keys import encoded, tenant_key
from temporal_tenancy.shared_state._store import SharedState, current_shared_state

TTL: Final = timedelta(seconds=30)
TTL_MIN: Final = timedelta(milliseconds=500)
POLLS: Final = (0.05, 0.15)  # seconds between two tries while another one holds the lock


class TenantLock:
    """A lock of a tenant that is held. Made by `tenant_lock()`."""

    def __init__(self, name: str, tenant: str, token: int) -> None:
        self.name = name
        self.tenant = tenant
        self.token = token
        """Larger than that of every holder before; for another system that can compare it."""
        self.is_lost = False
        self._has_ended = False  # its block has: what outlives that holds nothing

    def check(self, session: AsyncSession | RawSession) -> Coroutine[Any, Any, None]:
        """Makes the transaction of `session` one that only the newest holder can commit.

        Call it first in each transaction under the lock. Whoever takes the lock next waits for the
        end of the transaction.

        Args:
            session: the `tenant_session()`, or `tenant_transaction()`, that writes.

        Raises:
            LockLost: the lock has ended, or another one has taken it since.
            TenantMismatch: this is another tenant's lock.
            NotAwaited: raised at the end of the session if the result was not awaited in it.
        """
        return in_block(session, self._check(session), "lock.check(…)")

    async def _check(self, session: AsyncSession | RawSession) -> None:
        if current_tenant() != self.tenant:
            raise TenantMismatch(
                f"the lock {self.name} is {self.tenant}'s, and this code works for "
                f"{current_tenant()}. Take a lock of its own."
            )
        if self._has_ended or await newest_token(session, self.name) != self.token:
            self.is_lost = True
        if self.is_lost:
            raise self.lost()

    def lost(self) -> LockLost:
        """Returns the error that says that the lock is lost."""
        return LockLost(
            f"{self.tenant} has lost the lock {self.name}: it ended, or another one took it. "
            "Nothing more is written under it. Try again."
        )


@asynccontextmanager
async def tenant_lock(
    name: str, *parts: str, ttl: timedelta = TTL, wait: timedelta = timedelta(0)
) -> AsyncIterator[TenantLock]:
    """Holds the current tenant's lock during the block, and renews it.

    Take it outside `tenant_session()`, and call `await lock.check(session)` first in each
    transaction of the block. Where the lock is lost, the block is cancelled.

    Args:
        name: what it protects, such as `invoices`.
        parts: which one, such as a month.
        ttl: for how long it outlives a process that was killed; it is renewed three times as often.
        wait: how long to wait while another one holds it.

    Raises:
        ScopeMissing: no tenant's scope is open, or this is workflow code.
        LockTaken: another one holds it.
        LockUnavailable: Redis is away; nothing was begun.
        LockLost: it was lost during the block.
        DatabaseUnreachable, ...: as for `tenant_session()`, from which the fence comes.
    """
    state, key, tenant = current_shared_state(), tenant_key("lock", name, *parts), current_tenant()
    if ttl < TTL_MIN:
        raise ConfigurationError(
            f"the lock {name} would end after {ttl.total_seconds():g} s, before it can be "
            f"renewed. Give it a ttl of {TTL_MIN.total_seconds()} s or more."
        )
    seconds, shown = ttl.total_seconds(), encoded((name, *parts))
    held, until = await _acquired(state, key, shown, seconds, wait.total_seconds())
    try:
        async with tenant_session() as session:
            lock = TenantLock(shown, tenant, await take_token(session, shown))
        try:
            async with asyncio.timeout_at(until) as life:
                renewing = asyncio.create_task(_renewed(state, held, seconds, life, lock))
                try:
                    yield lock
                finally:
                    lock._has_ended = True
                    renewing.cancel()
                    await asyncio.wait([renewing])
        except TimeoutError:
            if life.expired():
                lock.is_lost = True
                raise lock.lost() from None
            raise
        if lock.is_lost:
            raise lock.lost()
    except BaseException:
        with suppress(SharedStateUnavailable, LockError):
            await _released(state, held)
        raise
    try:
        await _released(state, held)
    except LockError:  # it ended before the last renewal could see that
        raise lock.lost() from None
    except SharedStateUnavailable:  # it was held until now, and ends by itself
        pass


async def _acquired(
    state: SharedState, key: str, name: str, seconds: float, wait: float
) -> tuple[Lock, float]:
    """Returns the lock in Redis, and the time of the loop until which it lives."""
    loop = asyncio.get_running_loop()
    patience = loop.time() + wait
    while True:
        begun = loop.time()

        async def acquire(client: Redis) -> Lock | None:
            lock = Lock(client, key, timeout=seconds, thread_local=False)
            return lock if await lock.acquire(blocking=False) else None

        try:
            held = await state.call(acquire)
        except SharedStateUnavailable as error:
            raise LockUnavailable(
                f"the lock {name} cannot be taken. {error.message} Nothing goes on without it."
            ) from None
        if held is not None:
            return held, begun + seconds
        pause = random.uniform(*POLLS)  # noqa: S311  # no secret
        if loop.time() + pause > patience:
            raise LockTaken(f"another one holds the lock {name}. Try again later.")
        await asyncio.sleep(pause)


async def _renewed(
    state: SharedState, held: Lock, seconds: float, life: asyncio.Timeout, lock: TenantLock
) -> None:
    """Renews the lock until it is cancelled; `life` ends the block where that fails too long."""
    loop = asyncio.get_running_loop()
    pause = seconds / 3
    while True:
        await asyncio.sleep(pause)
        begun = loop.time()
        try:
            await state.call(lambda client: held.reacquire(), always=True)
        except LockError:  # it ended, was evicted, or another one has it
            lock.is_lost = True
            life.reschedule(loop.time())
            return
        except SharedStateUnavailable:
            pause = seconds / 10  # the block goes on for as long as the lock certainly lives
            continue
        pause = seconds / 3
        life.reschedule(begun + seconds)


async def _released(state: SharedState, held: Lock) -> None:
    await state.call(lambda client: held.release(), always=True)

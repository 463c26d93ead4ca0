"""Tries of keys: who sends too many that are none is not heard for a while."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from processes.web.refusals import RateExceeded, Unauthenticated
from temporal_tenancy.control_plane.api_keys import ApiKeys

KNOWN_MAX: Final = 10_000  # keys that are remembered as good
UNKNOWN_AT_ONCE: Final = 2  # looked up at once: of the control plane's connections, most stay free


class KeyTries:
    """Counts tries that failed, by address, in this process.

    A key that was good here is not held up by others' tries, neither of its own address nor of the
    world's: it is still looked up each time, and what was revoked is refused.
    """

    def __init__(self, failures_per_minute: int) -> None:
        """`failures_per_minute` are an address's, before it is not heard."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._item = RateLimitItemPerMinute(failures_per_minute)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._unknown = asyncio.Semaphore(UNKNOWN_AT_ONCE)

    @asynccontextmanager
    async def trying(self, address: str, credential: str) -> AsyncIterator[None]:
        """Inside the block the credential is looked up; `Unauthenticated` there is a failure.

        Raises `RateExceeded` where the address has failed too often within a minute.
        """
        digest = hashlib.sha256(credential.encode()).digest()
        if digest in self._known:
            self._known.move_to_end(digest)
            try:
                yield
            except Unauthenticated:
                self._known.pop(digest, None)
                raise
            return
        await self._refuse(address)
        try:
            async with self._unknown if credential.startswith(ApiKeys.MARK) else nullcontext():
                await self._refuse(address)  # others of the address may have failed meanwhile
                yield
        except Unauthenticated:
            await self._limiter.hit(self._item, address)
            raise
        self._known[digest] = None
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _refuse(self, address: str) -> None:
        if not await self._limiter.test(self._item, address):
            stats = await self._limiter.get_window_stats(self._item, address)
            seconds = max(1, math.ceil(stats.reset_time - time.time()))
            raise RateExceeded(
                seconds,
                "too many keys that are none have come from this address. Check the key, and try "
                f"again in {seconds} seconds.",
            )

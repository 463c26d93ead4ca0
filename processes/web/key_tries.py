"""Limits failed authentication: an address that sends too many invalid keys has to wait."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Final

from processes.web.rates import seconds_until
from processes.web.refusals import RateExceeded, Unauthenticated
from temporal_tenancy.control_plane import ApiKeys
from temporal_tenancy.core import duration
from temporal_tenancy.shared_state import (
    Rate,
    RateLimited,
    SharedState,
    platform_rate_limit,
    use_shared_state,
)

KNOWN_MAX: Final = 10_000  # keys that are remembered as valid
UNKNOWN_AT_ONCE: Final = 2  # concurrent lookups, so that most control plane connections stay free


class KeyTries:
    """Counts failed attempts by address, in all processes of the door together.

    Failed attempts, of the same address or another, do not delay a key that has been valid here.
    It is still looked up each time, so a revoked key is rejected.
    """

    def __init__(self, failures_per_minute: int, state: SharedState | None = None) -> None:
        """
        Args:
            failures_per_minute: how many invalid keys one address may send.
            state: where the processes count; without Redis each counts on its own.
        """
        self._rate = Rate(failures_per_minute, timedelta(minutes=1))
        self._state = state or SharedState(None)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._unknown = asyncio.Semaphore(UNKNOWN_AT_ONCE)

    @asynccontextmanager
    async def trying(self, address: str, credential: str) -> AsyncIterator[None]:
        """Wraps the lookup of a credential; counts `Unauthenticated` in the block as a failure.

        Raises `RateExceeded` if the address has failed too often within a minute.
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
            with suppress(RateLimited):
                await self._limit(address)
            raise
        self._known[digest] = None
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _refuse(self, address: str) -> None:
        try:
            await self._limit(address, counts=False)
        except RateLimited as limited:
            seconds = seconds_until(limited)
            raise RateExceeded(
                seconds,
                "this address has sent too many invalid keys. Check the key, and try again in "
                f"{duration(timedelta(seconds=seconds))}.",
            ) from None

    async def _limit(self, address: str, *, counts: bool = True) -> None:
        with use_shared_state(self._state):
            await platform_rate_limit("door.keys", self._rate, address, counts=counts)

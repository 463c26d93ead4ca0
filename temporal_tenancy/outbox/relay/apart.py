"""Tenants that are claimed for beside the others, because a claim may be too much for their rows.

Who fails a claim, or takes long for one, is claimed for alone for a while, in turn with others of
its kind. Those of a claim that failed for all together are tried alone first, and go back at once
when nothing is the matter with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

# Seconds after a claim that failed, more each time in a row; the last repeats.
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass
class _Place:
    """A tenant's place beside the others."""

    until: float  # when it may be among the others again, on the clock
    asked: bool = True  # whether it has messages, as far as is known
    tried: float = float("-inf")  # when it was claimed for last
    due: float = float("-inf")  # not before
    failed: int = 0  # claims in a row
    careful: bool = False  # some messages at a time, and each by itself


class Apart:
    """Who is claimed for beside the others, and whose turn it is."""

    def __init__(self, stays: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        """`stays` is how long after its last trouble a tenant is not among the others."""
        self._stays = stays.total_seconds()
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._changed = asyncio.Event()

    def __contains__(self, tenant: str) -> bool:
        """Whether a tenant is claimed for beside the others."""
        place = self._places.get(tenant)
        if place is None:
            return False
        if not place.asked and place.until <= self._clock():
            del self._places[tenant]
            return False
        return True

    def __len__(self) -> int:
        return len(self._places)

    def is_careful(self, tenant: str) -> bool:
        """Whether some of a tenant's messages are to be claimed at a time, each by itself."""
        return self._places[tenant].careful

    def failures(self, tenant: str) -> int:
        """How many claims of a tenant have failed in a row."""
        return self._places[tenant].failed

    def suspect(self, tenants: Iterable[str]) -> None:
        """One of these may be too much for a claim: each is tried alone, before all others."""
        for tenant in tenants:
            self._places.setdefault(tenant, _Place(until=self._clock()))
        self._changed.set()

    def ask(self, tenant: str) -> None:
        """A tenant that is apart has messages."""
        place = self._places[tenant]
        if not place.asked:
            place.asked = True
            self._changed.set()

    def rest(self, tenant: str) -> None:
        """Nothing can be claimed for a tenant now: it is for `ask()` to say when that is over."""
        place = self._places[tenant]
        place.asked, place.tried = False, self._clock()

    def passed(self, tenant: str, *, found: bool, troubled: bool) -> None:
        """A claim succeeded; `troubled` where it was slow, or a message could not be read."""
        place = self._places[tenant]
        now = place.tried = self._clock()
        place.asked, place.failed, place.careful = found, 0, troubled
        if troubled:
            place.until = now + self._stays
        elif place.until <= now:
            del self._places[tenant]

    def failed(self, tenant: str) -> None:
        """A claim failed: the next comes later, and later each time."""
        place = self._places[tenant]
        now = place.tried = self._clock()
        place.until = now + self._stays
        place.due = now + PAUSES[min(place.failed, len(PAUSES) - 1)]
        place.failed += 1
        place.careful = True

    def next(self) -> str | None:
        """Whose turn it is: of those that are due, the one that was tried the longest ago."""
        self._changed.clear()
        now = self._clock()
        due = [tenant for tenant, place in self._places.items() if place.asked and place.due <= now]
        return min(due, key=lambda tenant: self._places[tenant].tried, default=None)

    async def changed(self) -> None:
        """Waits until it may be somebody's turn."""
        due = [place.due for place in self._places.values() if place.asked]
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(due) - self._clock()) if due else None):
                await self._changed.wait()

    def wake(self) -> None:
        """Ends the waiting."""
        self._changed.set()

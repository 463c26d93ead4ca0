"""Quarantine: tenants claimed separately, because their rows may make a claim fail or slow.

A tenant whose claim fails or is slow stays in quarantine for a while, and quarantined tenants take
turns. When a claim for several tenants fails, each is first tried alone, and leaves the quarantine
at once if its own claim is fast and succeeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

# Seconds to wait after each failed claim in a row; the last repeats.
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass
class _Entry:
    """A tenant in quarantine; times are in seconds on the quarantine's clock."""

    until: float  # when it may leave
    has_messages: bool = True  # as far as is known
    tried: float = float("-inf")  # when its messages were last claimed
    due: float = float("-inf")  # the earliest next claim
    failures: int = 0  # failed claims in a row
    careful: bool = False  # claim a few messages at a time, and read each payload separately


class Quarantine:
    """The tenants in quarantine, and whose turn it is."""

    def __init__(self, stay: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        """`stay` is how long a tenant remains after its last failed or slow claim."""
        self._stay = stay.total_seconds()
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._changed = asyncio.Event()

    def __contains__(self, tenant: str) -> bool:
        """Whether a tenant's messages are claimed separately."""
        entry = self._entries.get(tenant)
        if entry is None:
            return False
        if not entry.has_messages and entry.until <= self._clock():
            del self._entries[tenant]
            return False
        return True

    def __len__(self) -> int:
        return len(self._entries)

    def is_careful(self, tenant: str) -> bool:
        """Whether to claim only a few of a tenant's messages, and read each payload separately."""
        return self._entries[tenant].careful

    def failures(self, tenant: str) -> int:
        """Returns how many claims of a tenant have failed in a row."""
        return self._entries[tenant].failures

    def suspect(self, tenants: Iterable[str]) -> None:
        """Adds tenants of a failed or slow claim; each is tried alone, before the other entries."""
        for tenant in tenants:
            self._entries.setdefault(tenant, _Entry(until=self._clock()))
        self._changed.set()

    def ask(self, tenant: str) -> None:
        """Records that a quarantined tenant has messages."""
        entry = self._entries[tenant]
        if not entry.has_messages:
            entry.has_messages = True
            self._changed.set()

    def rest(self, tenant: str) -> None:
        """Skips a tenant that nothing can be claimed for now, until the next `ask()`."""
        entry = self._entries[tenant]
        entry.has_messages, entry.tried = False, self._clock()

    def passed(self, tenant: str, *, found: bool, troubled: bool) -> None:
        """Records a successful claim.

        `found` is whether it claimed messages; `troubled`, whether it was slow or a payload could
        not be read.
        """
        entry = self._entries[tenant]
        now = entry.tried = self._clock()
        entry.has_messages, entry.failures, entry.careful = found, 0, troubled
        if troubled:
            entry.until = now + self._stay
        elif entry.until <= now:
            del self._entries[tenant]

    def failed(self, tenant: str) -> None:
        """Records a failed claim, and delays the next one for longer each time."""
        entry = self._entries[tenant]
        now = entry.tried = self._clock()
        entry.until = now + self._stay
        entry.due = now + PAUSES[min(entry.failures, len(PAUSES) - 1)]
        entry.failures += 1
        entry.careful = True

    def next(self) -> str | None:
        """Returns the due tenant that was tried the longest ago, or None if none is due."""
        self._changed.clear()
        now = self._clock()
        due = [
            tenant
            for tenant, entry in self._entries.items()
            if entry.has_messages and entry.due <= now
        ]
        return min(due, key=lambda tenant: self._entries[tenant].tried, default=None)

    async def changed(self) -> None:
        """Waits until a tenant may be due."""
        due = [entry.due for entry in self._entries.values() if entry.has_messages]
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(due) - self._clock()) if due else None):
                await self._changed.wait()

    def wake(self) -> None:
        """Ends the wait of `changed()`."""
        self._changed.set()

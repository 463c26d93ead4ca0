"""Counters by tenant that stay few: the noisiest tenants have their own, the rest share one."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from heapq import nlargest
from typing import Final

from temporal_tenancy.metrics.catalogue import OTHER

ELECTED_EVERY: Final = 60.0  # seconds
STAYS: Final = 2.0  # times a tenant's seconds count while it has counters, so that they stay longer
REMEMBERED: Final = 50  # times `most` tenants, and at least 1,000, are compared at an election


class Noisiest:
    """Adds up values by tenant. At any time at most `most` tenants have counters of their own.

    A tenant's counters begin at zero when it becomes one of the noisiest, and are gone when it is
    no more: no counter of those that are there ever falls, and what was counted as another's is
    not moved, so that rates of the sum are right.
    """

    def __init__(
        self,
        most: int,
        *,
        every: float = ELECTED_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            most: how many tenants have counters of their own; 0: none.
            every: seconds between elections.
            clock: returns the time in seconds.
        """
        self._most = most
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._elected: set[str] = set()
        self._weights: dict[str, float] = defaultdict(float)  # recent seconds, by tenant
        self._sums: dict[str, dict[str, float]] = {}  # by tenant or OTHER, then by measure
        self._next = clock() + every

    def add(self, tenant: str, measure: str, value: float, *, weighs: bool = True) -> None:
        """Adds `value` to a measure of `tenant`; what `weighs` decides who is noisiest."""
        with self._lock:
            if weighs:
                self._weights[tenant] += value
            if self._clock() >= self._next:
                self._elect()
            # A tenant of that name is always one of the others.
            if tenant not in self._elected and tenant != OTHER and len(self._elected) < self._most:
                self._elected.add(tenant)
            key = tenant if tenant in self._elected else OTHER
            sums = self._sums.setdefault(key, {})
            sums[measure] = sums.get(measure, 0.0) + value

    def sums(self) -> Mapping[str, Mapping[str, float]]:
        """Returns the sums by tenant or `other`, and then by measure."""
        with self._lock:
            return {tenant: dict(sums) for tenant, sums in self._sums.items()}

    def _elect(self) -> None:
        self._next = self._clock() + self._every

        def weight(tenant: str) -> float:
            own = self._weights.get(tenant, 0.0)
            return own * STAYS if tenant in self._elected else own

        known = (tenant for tenant in (*self._weights, *self._elected) if tenant != OTHER)
        self._elected = set(nlargest(self._most, dict.fromkeys(known), weight))
        for tenant in list(self._sums):
            if tenant not in self._elected and tenant != OTHER:
                del self._sums[tenant]
        remembered = nlargest(
            max(1_000, REMEMBERED * self._most), self._weights, self._weights.__getitem__
        )
        kept = {tenant: self._weights[tenant] / 2 for tenant in remembered}
        self._weights = defaultdict(float, kept)

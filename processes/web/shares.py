"""Limits on concurrent use: in total, and per user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from processes.web.refusals import Overloaded, RateExceeded

RETRY_AFTER = 5  # seconds


class Share:
    """Counts concurrent uses of a limited resource."""

    def __init__(self, each: int, total: int | None = None) -> None:
        """`each` limits the concurrent uses of one user, `total` those of all users."""
        self._each = each
        self._total = total
        self._in_use: Counter[str] = Counter()
        self._all = 0

    def of(self, who: str) -> int:
        """Returns the current number of uses by `who`."""
        return self._in_use[who]

    @contextmanager
    def taken(self, who: str) -> Iterator[None]:
        """Counts one use by `who` during the block.

        Raises:
            RateExceeded: `who` is at its limit.
            Overloaded: the total is at its limit.
        """
        if self._in_use[who] >= self._each:
            raise RateExceeded(RETRY_AFTER)
        if self._total is not None and self._all >= self._total:
            raise Overloaded(RETRY_AFTER)
        self._in_use[who] += 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._in_use[who] -= 1
            if not self._in_use[who]:
                del self._in_use[who]

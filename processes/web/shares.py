"""How many of something are under way at once: in all, and for each who has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from processes.web.refusals import Overloaded, RateExceeded

RETRY_AFTER = 5  # seconds


class Share:
    """Counts what is under way."""

    def __init__(self, each: int, total: int | None = None) -> None:
        """`each` is how many one may have at once, `total` how many there may be of everybody's."""
        self._each = each
        self._total = total
        self._held: Counter[str] = Counter()
        self._all = 0

    def of(self, who: str) -> int:
        """How many one has."""
        return self._held[who]

    @contextmanager
    def taken(self, who: str) -> Iterator[None]:
        """Counts one of `who`'s inside the block.

        Raises:
            RateExceeded: it has as many as it may.
            Overloaded: there are as many as there may be, of everybody's.
        """
        if self._held[who] >= self._each:
            raise RateExceeded(RETRY_AFTER)
        if self._total is not None and self._all >= self._total:
            raise Overloaded(RETRY_AFTER)
        self._held[who] += 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]

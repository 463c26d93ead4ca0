"""A circuit: after a failure, calls are refused at once for a while, and then one is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PAUSE: Final = 1.0  # seconds between two tries while the server is away


class Circuit:
    """Whether a server is worth asking."""

    def __init__(self, pause: float = PAUSE, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            pause: seconds for which calls are refused after a failure.
            clock: returns seconds.
        """
        self._pause = pause
        self._clock = clock
        self._until: float | None = None  # None: the last call succeeded
        self.reason = ""  # why the last call failed

    def admits(self) -> bool:
        """Whether a call may be tried now; while the server is away, one in each pause."""
        if self._until is None:
            return True
        now = self._clock()
        if now < self._until:
            return False
        self._until = now + self._pause  # others wait for how this one ends
        return True

    def succeeded(self) -> bool:
        """Notes that the server has answered; returns whether it was away."""
        was_away, self._until = self._until is not None, None
        return was_away

    def failed(self, reason: str) -> bool:
        """Notes that it has not; returns whether it was there before, or failed otherwise."""
        is_news = self._until is None or reason != self.reason
        self._until = self._clock() + self._pause
        self.reason = reason
        return is_news

"""The pace at which a shard starts children."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta


class Pace:
    """Limits how many starts are allowed within a second; below 1 a second, it spaces them out.

    Starts that are allowed at the same moment share their next moment too, so a shard at the limit
    needs one timer a second instead of one for each child.
    """

    def __init__(self, per_second: float | None, now: datetime, *, first: bool) -> None:
        """
        Args:
            per_second: starts a second; None for no limit.
            now: aware.
            first: whether this is the tick's first shard, which may start at once. The shard
                before another one may have started children up to this moment.
        """
        seconds = max(1.0, 1.0 / per_second) if per_second else 0.0
        starts = max(1, int(per_second * seconds)) if per_second else 0
        self._apart = timedelta(seconds=seconds)
        self._last: deque[datetime] = deque([] if first else [now] * starts, maxlen=starts)

    def next_start(self, now: datetime) -> datetime:
        """Reserves a start; returns the earliest time (aware) for it."""
        moment = now
        if self._last and len(self._last) == self._last.maxlen:
            moment = max(now, self._last[0] + self._apart)
        self._last.append(moment)
        return moment

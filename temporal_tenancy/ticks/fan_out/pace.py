"""How fast children may be started."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta


class Pace:
    """Lets no more than so many starts through in any second, or below one, one in so long.

    Those of one moment have the next moment in common too, so a shard that is held up needs one
    timer a second, and not one a child.
    """

    def __init__(self, per_second: float | None, now: datetime, *, first: bool) -> None:
        """`per_second`: None is no limit.

        Only the `first` shard of a tick may start at once: before another there may have been
        starts up to this moment.
        """
        seconds = max(1.0, 1.0 / per_second) if per_second else 0.0
        starts = max(1, int(per_second * seconds)) if per_second else 0
        self._apart = timedelta(seconds=seconds)
        self._last: deque[datetime] = deque([] if first else [now] * starts, maxlen=starts)

    def next_start(self, now: datetime) -> datetime:
        """Takes a start, and returns from when on it may be made."""
        moment = now
        if self._last and len(self._last) == self._last.maxlen:
            moment = max(now, self._last[0] + self._apart)
        self._last.append(moment)
        return moment

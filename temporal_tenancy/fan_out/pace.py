"""How fast children may be started."""

from __future__ import annotations

from datetime import datetime, timedelta


class Pace:
    """Lets so many starts a second through, in rounds of a second or, below one, of one start.

    A round costs a shard one timer, however many starts it has.
    """

    def __init__(self, per_second: float | None, now: datetime, *, first: bool) -> None:
        """`per_second`: None is no limit. Only the `first` shard of a tick begins with a round.

        The others' first one may be what is left of the second in which the last one started.
        """
        seconds = max(1.0, 1.0 / per_second) if per_second else 0.0
        self._starts = max(1, int(per_second * seconds)) if per_second else 0
        self._round = timedelta(seconds=seconds)
        self._left = self._starts if first else 0
        self._ends = now + self._round

    def next_start(self, now: datetime) -> datetime:
        """Takes a start, and returns from when on it may be made."""
        if not self._starts:
            return now
        if now >= self._ends:
            self._begin(now)
        elif not self._left:
            self._begin(self._ends)
        self._left -= 1
        return max(now, self._ends - self._round)

    def _begin(self, moment: datetime) -> None:
        self._left = self._starts
        self._ends = moment + self._round

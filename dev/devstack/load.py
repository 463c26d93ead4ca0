"""How busy this machine is: a process that gets no processor is slow, and not at fault."""

from __future__ import annotations

import time
from typing import Final

import psutil

BUSY: Final = 0.2  # of the processors' time; a machine that is idle for less of it is busy
GLANCE: Final = 0.5  # seconds; a look that follows sooner tells what the one before it did


class Load:
    """Tells from one look to the next whether the machine was busy."""

    def __init__(self) -> None:
        self._looked = time.monotonic()
        self._idle, self._all = _seconds()
        self._was_busy = False

    def was_busy(self) -> bool:
        """Returns whether the processors were hardly idle since the last look."""
        now = time.monotonic()
        if now - self._looked < GLANCE:
            return self._was_busy
        idle, all_ = _seconds()
        passed = all_ - self._all
        self._was_busy = passed > 0 and (idle - self._idle) / passed < BUSY
        self._looked, self._idle, self._all = now, idle, all_
        return self._was_busy


def _seconds() -> tuple[float, float]:
    """Returns for how long the processors were idle, and for how long there were any.

    Time in which one waits for a disk is not idle.
    """
    times = psutil.cpu_times()
    # `user` contains `guest`, and `nice` contains `guest_nice`.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return times.idle, sum(times) - guests

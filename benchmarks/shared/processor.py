"""Processor time: steadier than the clock on a machine that others use too."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

import psutil

CPU_UNIT: Final = "/CPU second"


class Rates(NamedTuple):
    """What was done in a second of the clock, and in one of all processors."""

    per_second: float
    per_cpu_second: float

    def __str__(self) -> str:
        return f"{self.per_second:.1f} and {self.per_cpu_second:.1f}"


def processor_seconds(*, own: bool = False) -> float:
    """Returns what the processes and servers that the benchmark has started have used, in seconds.

    `own`: with what this process has used itself, for workers and relays that run in it.
    """
    this = psutil.Process()
    seconds = 0.0
    for process in [*([this] if own else []), *this.children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds

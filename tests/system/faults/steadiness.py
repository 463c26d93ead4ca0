"""Samples what processes hold on to, and judges whether it stays the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import psutil

# How much a figure may rise over the whole time, after the warm-up: a part of its median, or so
# many where the figure is small and a part of it is less than one.
RISE: Final = 0.10
UNITS: Final = {"memory MB": 8.0, "threads": 2.0, "handles": 4.0, "connections": 3.0}

# A process or a server by its role, and whose figures it has: itself and its children.
Roots = Callable[[], Mapping[str, int]]


@dataclass
class Series:
    """One figure of one role over time."""

    unit: str  # a key of UNITS
    times: list[float] = field(default_factory=list)  # seconds
    values: list[float] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        """Adds a sample."""
        self.times.append(at)
        self.values.append(value)

    def after(self, seconds: float) -> Series:
        """Returns the samples from `seconds` after the first on."""
        kept = [
            (at, value)
            for at, value in zip(self.times, self.values, strict=True)
            if at - self.times[0] >= seconds
        ]
        return Series(self.unit, [at for at, _ in kept], [value for _, value in kept])

    @property
    def middle(self) -> float:
        """The median of the samples."""
        return median(self.values)

    @property
    def rise(self) -> float:
        """How much it rose from the first sample to the last, by the Theil-Sen slope."""
        return slope(self.times, self.values) * (self.times[-1] - self.times[0])

    @property
    def is_flat(self) -> bool:
        """Whether it rose by no more than it may."""
        return self.rise <= max(RISE * self.middle, UNITS[self.unit])


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Returns the median of the slopes between any two points, which outliers do not move.

    Sen, Estimates of the regression coefficient based on Kendall's tau (1968). 0 for fewer than two
    points.
    """
    slopes = [
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for earlier in range(len(times))
        for later in range(earlier + 1, len(times))
        if times[later] > times[earlier]
    ]
    return median(slopes) if slopes else 0.0


@dataclass
class Samples:
    """All figures, by role and unit."""

    series: dict[tuple[str, str], Series] = field(default_factory=dict)

    def add(self, role: str, unit: str, value: float) -> None:
        """Adds a sample of now."""
        found = self.series.setdefault((role, unit), Series(unit))
        found.add(time.monotonic(), value)

    def look_at(self, role: str, pid: int) -> None:
        """Samples a process with its children; one that has just ended is left out."""
        memory, threads, handles = 0, 0, 0
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error), each.oneshot():
                    memory += each.memory_info().rss
                    threads += each.num_threads()
                    handles += each.num_fds()
        if threads:
            self.add(role, "memory MB", memory / 1e6)
            self.add(role, "threads", threads)
            self.add(role, "handles", handles)

    def table(self, warm_up: float) -> list[str]:
        """Returns a line for each figure: its median and its rise after the warm-up."""
        lines = [f"{'role':22} {'figure':12} {'median':>9} {'rise':>8}  flat"]
        for (role, unit), whole in sorted(self.series.items()):
            kept = whole.after(warm_up)
            if len(kept.values) > 1:
                lines.append(
                    f"{role:22} {unit:12} {kept.middle:9.1f} {kept.rise:+8.1f}  "
                    f"{'yes' if kept.is_flat else 'NO'}"
                )
        return lines

    def rising(self, warm_up: float) -> list[str]:
        """Returns a sentence for each figure that is not flat after the warm-up."""
        found = []
        for (role, unit), whole in sorted(self.series.items()):
            kept = whole.after(warm_up)
            if len(kept.values) > 1 and not kept.is_flat:
                found.append(
                    f"{role}: {unit} rose by {kept.rise:.1f} from a median of {kept.middle:.1f}."
                )
        return found

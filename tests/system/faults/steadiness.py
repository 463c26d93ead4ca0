"""Samples what processes hold on to, and judges whether it stays the same."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Final, NamedTuple

import psutil

# How much a figure may rise over the whole time, after the warm-up: a part of its median, or so
# many where the figure is small and a part of it is less than one.
RISE: Final = 0.10
MEMORY: Final = "memory MB"
THREADS: Final = "threads"
HANDLES: Final = "handles"
CONNECTIONS: Final = "connections"
UNITS: Final = {MEMORY: 8.0, THREADS: 2.0, HANDLES: 4.0, CONNECTIONS: 3.0}

# Of a server that is not ours. Its memory rises with the runs that it keeps, and it opens more
# connections to itself, two handles each, as long as it likes; nothing of ours could hold them.
RUNS: Final = "runs started"
TO_ITSELF: Final = "to itself"
SHOWN: Final = {RUNS, TO_ITSELF}  # judged by nothing
KB_A_RUN: Final = 50.0  # of its memory; half more than a soak of 3,100 runs showed (32 kB)


@dataclass
class Series:
    """One figure of one role over time."""

    unit: str  # a key of UNITS, or in SHOWN
    may_rise: float = 0.0  # besides
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
        times, values = [at for at, _ in kept], [value for _, value in kept]
        return Series(self.unit, self.may_rise, times, values)

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
        if self.unit in SHOWN:
            return True
        return self.rise <= max(RISE * self.middle, UNITS[self.unit], self.may_rise)


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


class Connection(NamedTuple):
    """One end of a connection, as the process has it that holds it."""

    here: int  # the port
    there: int  # the other's port


def connections_of(process: psutil.Process) -> list[Connection]:
    """Returns the open connections of a process; each end of one to itself is one."""
    return [
        Connection(each.laddr.port, each.raddr.port)
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_ESTABLISHED
    ]


def to_itself(connections: Sequence[Connection]) -> int:
    """Returns how many ends of a process's connections have their other end in it too."""
    mine = set(connections)
    return sum(Connection(each.there, each.here) in mine for each in connections)


@dataclass
class Samples:
    """All figures, by role and unit."""

    series: dict[tuple[str, str], Series] = field(default_factory=dict)

    def add(self, role: str, unit: str, value: float) -> None:
        """Adds a sample of now."""
        found = self.series.setdefault((role, unit), Series(unit))
        found.add(time.monotonic(), value)

    def look_at(self, role: str, pid: int, server: int | None = None) -> None:
        """Samples a process with its children; one that has just ended is left out.

        `server` is the port of a server whose connections to it are counted.
        """
        memory, threads, handles, connections = 0, 0, 0, 0
        for each in _with_children(pid):
            with suppress(psutil.Error), each.oneshot():
                memory += each.memory_info().rss
                threads += each.num_threads()
                handles += each.num_fds()
                connections += sum(found.there == server for found in connections_of(each))
        if threads:
            self.add(role, MEMORY, memory / 1e6)
            self.add(role, THREADS, threads)
            self.add(role, HANDLES, handles)
            if server is not None:
                self.add(role, CONNECTIONS, connections)

    def look_at_server(self, role: str, pid: int, port: int) -> None:
        """Samples a server that is not ours, which clients reach at `port`.

        Its connections are those of others. Its handles are those that have nothing to do with its
        connections to itself.
        """
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                found = connections_of(process)
                inner = to_itself(found)
                at_port = [each for each in found if each.here == port]
                mine = set(found)
                others = sum(Connection(each.there, port) not in mine for each in at_port)
                self.add(role, MEMORY, process.memory_info().rss / 1e6)
                self.add(role, THREADS, process.num_threads())
                self.add(role, HANDLES, process.num_fds() - inner)
                self.add(role, CONNECTIONS, others)
                self.add(role, TO_ITSELF, inner)

    def allow_for_runs(self, warm_up: float) -> dict[str, float]:
        """Lets the memory of servers rise by `KB_A_RUN` for each run after the warm-up.

        Returns how many kB it did rise for each, by role.
        """
        cost = {}
        for role in [role for role, unit in self.series if unit == RUNS]:
            kept = self.series[role, RUNS].after(warm_up)
            memory = self.series.get((role, MEMORY))
            if memory is None or len(kept.values) < 2 or kept.values[-1] <= kept.values[0]:
                continue
            runs = kept.values[-1] - kept.values[0]
            memory.may_rise = runs * KB_A_RUN / 1e3
            cost[role] = round(memory.after(warm_up).rise * 1e3 / runs, 1)
        return cost

    def table(self, warm_up: float) -> list[str]:
        """Returns a line for each figure: its median and its rise after the warm-up."""
        lines = [f"{'role':22} {'figure':12} {'median':>9} {'rise':>8}  flat"]
        for (role, unit), whole in sorted(self.series.items()):
            kept = whole.after(warm_up)
            if len(kept.values) > 1:
                lines.append(
                    f"{role:22} {unit:12} {kept.middle:9.1f} {kept.rise:+8.1f}  {_verdict(kept)}"
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


def _verdict(series: Series) -> str:
    if series.unit in SHOWN:
        return "-"
    return "yes" if series.is_flat else "NO"


def _with_children(pid: int) -> Iterable[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []

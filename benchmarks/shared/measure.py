"""Measures two arms in turns, and answers with one line of JSON.

Within minutes, a machine's speed drifts by more than the differences to be measured. So the arms
take turns in many short rounds, each round gives the ratio of two consecutive measurements, and the
answer is the median of these ratios.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any, Literal

from processes import logs


class Arm(StrEnum):
    """The two sides of a comparison."""

    OURS = "ours"
    PEER = "peer"


@dataclass(frozen=True)
class Goal:
    """The bound that a ratio must meet."""

    sense: Literal[">=", "<="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether `value` meets the bound; equality counts."""
        return value >= self.bound if self.sense == ">=" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound}"


@dataclass
class Comparison:
    """The measurements of each arm, one per round, in the same unit."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    def add(self, measured: dict[Arm, float]) -> None:
        """Adds a round."""
        self.ours.append(measured[Arm.OURS])
        self.peer.append(measured[Arm.PEER])

    @property
    def ratios(self) -> list[float]:
        """Ours divided by the peer's, one per round."""
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    name: str
    peer: str  # describes the peer
    goal: Goal
    measured: str  # the unit of the arms' medians
    comparison: Comparison
    besides: Mapping[str, float] = field(default_factory=dict)  # more figures, by name

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        return self.goal.holds(self.comparison.ratio)

    def line(self, **told: str) -> str:
        """Returns one line of JSON; `spread` has the first and third quartile of the ratios.

        A figure by the second is also there for each processor, `ours_per_vcpu`. `told` is added to
        the line.
        """
        low, high = quantile(self.comparison.ratios, 0.25), quantile(self.comparison.ratios, 0.75)
        answer: dict[str, Any] = {
            "name": self.name,
            "value": round(self.comparison.ratio, 3),
            "unit": "ratio",
            "peer": self.peer,
            "goal": str(self.goal),
            "holds": self.holds,
            "measured": self.measured,
            "ours_median": _significant(median(self.comparison.ours)),
            "peer_median": _significant(median(self.comparison.peer)),
            "rounds": len(self.comparison.ratios),
            "spread": [round(low, 3), round(high, 3)],
            **{name: _significant(value) for name, value in self.besides.items()},
            **told,
        }
        if self.measured.endswith("/s"):
            cpus = processors()
            answer |= {"vcpus": cpus}
            answer["ours_per_vcpu"] = _significant(median(self.comparison.ours) / cpus)
        return json.dumps(answer, ensure_ascii=False)


def turns(rounds: int) -> Iterator[tuple[Arm, Arm]]:
    """Yields the order of the arms for each round; it alternates."""
    for number in range(rounds):
        yield (Arm.OURS, Arm.PEER) if number % 2 == 0 else (Arm.PEER, Arm.OURS)


def rounds(usual: int, *, full: int) -> int:
    """Returns the number of rounds: `usual`, or `full` if FULL=1 requests long measurements."""
    return full if is_full() else usual


def is_full() -> bool:
    """Whether the environment has FULL=1, which requests long measurements."""
    return os.environ.get("FULL", "0") not in ("", "0")


def processors() -> int:
    """Returns how many processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quantile(values: list[float], part: float) -> float:
    """Returns the quantile `part` (0 to 1) of `values`, interpolated linearly."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def jain(shares: Sequence[float]) -> float:
    """Returns Jain's index of fairness: 1 if all shares are equal, 1/n if one has everything.

    Jain, Chiu, Hawe: A quantitative measure of fairness (1984).
    """
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def tell(message: str) -> None:
    """Prints progress on standard error."""
    print(message, file=sys.stderr, flush=True)


def write_logs_away() -> None:
    """Formats logs from WARNING up, as in production, and writes them to the null device."""
    logs.configure("warning", "json", stream=open(os.devnull, "w"))  # noqa: SIM115


def _significant(value: float) -> float:
    return float(f"{value:.4g}")

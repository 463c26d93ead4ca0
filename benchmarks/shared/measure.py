"""How a question is measured and answered: two arms in turns, and one line of JSON.

A machine's speed drifts within minutes by more than what is asked for. So the arms take turns in
many short rounds, each round gives one ratio of two neighbours, and the answer is the median of
those ratios.
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
    """The two that are compared."""

    OURS = "ours"
    PEER = "peer"


@dataclass(frozen=True)
class Goal:
    """What a ratio is to be."""

    sense: Literal[">=", "<="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether `value` is on the right side of the bound, or on it."""
        return value >= self.bound if self.sense == ">=" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound}"


@dataclass
class Comparison:
    """What each arm measured, round by round, in one unit."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    def add(self, measured: dict[Arm, float]) -> None:
        """Adds a round."""
        self.ours.append(measured[Arm.OURS])
        self.peer.append(measured[Arm.PEER])

    @property
    def ratios(self) -> list[float]:
        """Ours by the peer's, a round each."""
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)


@dataclass(frozen=True)
class Answer:
    """What one question came to."""

    name: str
    peer: str  # what ours is compared with
    goal: Goal
    measured: str  # the unit of the arms' medians
    comparison: Comparison
    besides: Mapping[str, float] = field(default_factory=dict)  # further figures, by name

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        return self.goal.holds(self.comparison.ratio)

    def line(self) -> str:
        """One line of JSON. `spread` are the first and third quartile of the rounds' ratios."""
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
        }
        return json.dumps(answer, ensure_ascii=False)


def turns(rounds: int) -> Iterator[tuple[Arm, Arm]]:
    """Yields the order of the arms for each round; who went first goes second in the next."""
    for number in range(rounds):
        yield (Arm.OURS, Arm.PEER) if number % 2 == 0 else (Arm.PEER, Arm.OURS)


def rounds(usual: int, *, full: int) -> int:
    """How many rounds to run: `usual`, or `full` where the long measurements are asked for."""
    return full if is_full() else usual


def is_full() -> bool:
    """Whether the environment has FULL=1, which asks for the long measurements."""
    return os.environ.get("FULL", "0") not in ("", "0")


def quantile(values: list[float], part: float) -> float:
    """The value below which `part` (0 to 1) of `values` lie, between neighbours by proportion."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all shares are equal, 1/n where one has everything.

    Jain, Chiu, Hawe: A quantitative measure of fairness (1984).
    """
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def tell(message: str) -> None:
    """Tells a person, on standard error, how far it is."""
    print(message, file=sys.stderr, flush=True)


def write_logs_away() -> None:
    """Has log lines from WARNING on written, as in production, and to where nobody reads them."""
    logs.configure("warning", "json", stream=open(os.devnull, "w"))  # noqa: SIM115


def _significant(value: float) -> float:
    return float(f"{value:.4g}")

"""What goes wrong, and when: a seed decides all of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from devstack.postgres import PLATFORM, TENANT
from tests.faults.servers import TENANTS

LANES: Final = 4  # scenarios that run at once, each on servers of its own
SINGLE: Final = 20  # the seeds below have one fault each, those from here on may have two
JOBS: Final = ("billing.cycle", "analytics.aggregate")
FIRST_YEAR: Final = 2013
WINDOW: Final = 4  # children at once: the tick is at work for a while


class Kind(StrEnum):
    """What can go wrong."""

    KILL_WORKERS = "kill workers"  # the first few; others take their place
    CRASH_TEMPORAL = "crash Temporal"  # and start it on the same file
    CRASH_POSTGRES = "crash PostgreSQL"  # and start it on the same data
    TERMINATE_SESSIONS = "terminate sessions"  # again and again for a while
    CUT_COMMIT = "cut a COMMIT"  # that is done, and whose client does not know


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: Kind
    after: int  # tenants whose part is done
    workers: int = 0  # that are killed
    seconds: float = 0.0  # that sessions are terminated for
    role: str = ""  # whose COMMIT is cut
    number: int = 0  # of that COMMIT, from when the fault begins


@dataclass(frozen=True)
class Scenario:
    """A tick, and what goes wrong meanwhile."""

    seed: int
    job: str
    tick: str
    workers: int
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed; those of one lane have as many workers, and a month each."""
        chance = random.Random(seed)
        workers = 1 + seed % 2
        month = seed // LANES
        kinds = [list(Kind)[seed // 2 % len(Kind)]]
        if seed >= SINGLE and chance.random() < 0.5:
            kinds.append(chance.choice(list(Kind)))
        moments = sorted(chance.randint(0, TENANTS // 2) for _ in kinds)
        return cls(
            seed=seed,
            job=chance.choice(JOBS),
            tick=f"{FIRST_YEAR + month // 12}-{month % 12 + 1:02}",
            workers=workers,
            faults=tuple(
                _fault(seed, chance, kind, after, workers)
                for kind, after in zip(kinds, moments, strict=True)
            ),
        )

    def __str__(self) -> str:
        faults = ", then ".join(f"{fault.kind} after {fault.after}" for fault in self.faults)
        return f"seed {self.seed}: {self.job} {self.tick}, {self.workers} workers, {faults}"


def _fault(seed: int, chance: random.Random, kind: Kind, after: int, workers: int) -> Fault:
    if kind is Kind.KILL_WORKERS:
        # The bounded campaign kills one of two, and both.
        return Fault(kind, after, workers=1 + seed // 10 % workers)
    if kind is Kind.TERMINATE_SESSIONS:
        return Fault(kind, after, seconds=chance.uniform(1.0, 3.0))
    if kind is Kind.CUT_COMMIT:
        role, most = chance.choice([(TENANT, 5), (PLATFORM, 2)])
        return Fault(kind, after, role=role, number=chance.randint(1, most))
    return Fault(kind, after)

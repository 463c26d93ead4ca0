"""What goes wrong, and when: a seed decides all of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dev.devstack.postgres import PLATFORM, TENANT

LANES: Final = 4  # scenarios that run at once, each on servers of its own
SINGLE: Final = 20  # the seeds below have one fault each, those from here on may have two
JOBS: Final = ("billing.cycle", "analytics.aggregate")
FIRST_YEAR: Final = 2013
WINDOW: Final = 4  # children at once: the tick is at work for a while
LATEST: Final = 5  # tenants that are done when something goes wrong; ten at least are to be


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
    workers: int  # that are killed
    seconds: float  # that sessions are terminated for
    role: str  # whose COMMIT is cut
    number: int  # of that COMMIT, from when the fault begins


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
        """The scenario of a seed; those of one lane have as many workers, and a month each.

        Kinds, jobs, workers killed and roles go round, so that the bounded campaign has them all.
        """
        chance = random.Random(seed)
        workers = 1 + seed % 2
        month = seed // LANES
        kinds = [list(Kind)[seed // 2 % len(Kind)]]
        if seed >= SINGLE and chance.random() < 0.5:
            kinds.append(chance.choice(list(Kind)))
        return cls(
            seed=seed,
            job=JOBS[seed // 2 % len(JOBS)],
            tick=f"{FIRST_YEAR + month // 12}-{month % 12 + 1:02}",
            workers=workers,
            faults=tuple(
                Fault(
                    kind,
                    after=after,
                    workers=1 + seed // 10 % workers,
                    seconds=chance.uniform(1.0, 3.0),
                    role=(TENANT, PLATFORM)[seed % 2],
                    number=chance.randint(1, 2 if seed % 2 else 4),
                )
                for kind, after in zip(
                    kinds, sorted(chance.randint(0, LATEST) for _ in kinds), strict=True
                )
            ),
        )

    def __str__(self) -> str:
        faults = ", then ".join(f"{fault.kind} after {fault.after}" for fault in self.faults)
        return f"seed {self.seed}: {self.job} {self.tick}, {self.workers} workers, {faults}"

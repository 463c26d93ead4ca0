"""What goes wrong, and when; a seed determines everything."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dev.devstack.postgres import PLATFORM, TENANT

LANES: Final = 4  # concurrent scenarios, each on its own servers
SINGLE: Final = 20  # the seeds below have one fault each, later ones may have two
JOBS: Final = ("billing.cycle", "analytics.aggregate")
FIRST_YEAR: Final = 2013
WINDOW: Final = 4  # concurrent children: the tick is at work for a while
LATEST: Final = 5  # tenants that are done when the fault begins; at least ten must remain


class Kind(StrEnum):
    """What can go wrong."""

    KILL_WORKERS = "kill workers"  # the first few; others replace them
    CRASH_TEMPORAL = "crash Temporal"  # and start it on the same file
    CRASH_POSTGRES = "crash PostgreSQL"  # and start it on the same data
    TERMINATE_SESSIONS = "terminate sessions"  # again and again for a while
    CUT_COMMIT = "cut a COMMIT"  # that is done, without its client knowing


@dataclass(frozen=True)
class Fault:
    """One fault."""

    kind: Kind
    after: int  # tenants that are done
    workers: int  # that are killed
    seconds: float  # that sessions are terminated for
    role: str  # whose COMMIT is cut
    number: int  # of that COMMIT, from when the fault begins


@dataclass(frozen=True)
class Scenario:
    """A tick, and its faults."""

    seed: int
    job: str
    tick: str
    workers: int
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """Returns the scenario of a seed; those of a lane have as many workers, and a month each.

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

"""What goes wrong while messages are worked off, and when: a seed decides all of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LANES: Final = 3  # scenarios that run at once, each on servers of its own
TENANTS: Final = 4  # who ask in a scenario
RELAYS: Final = 2
LATEST: Final = 16  # effects that are there when something goes wrong; there are to be more


class Kind(StrEnum):
    """What can go wrong."""

    KILL_WORKERS = "kill workers"  # others take their place
    KILL_RELAYS = "kill the relays"  # that have started what they have not marked
    KILL_ONE_RELAY = "kill one relay of two"  # that has claimed what it could not start
    FREEZE_RELAY = "freeze a relay"  # for longer than its lease, after which it goes on
    CRASH_TEMPORAL = "crash Temporal"  # and start it on the same file
    CRASH_POSTGRES = "crash PostgreSQL"  # and start it on the same data
    TERMINATE_SESSIONS = "terminate sessions"  # again and again for a while
    CUT_CLIENT = "cut a client's COMMIT"  # that is done, and whose client does not know
    CUT_RELAY = "cut a relay's COMMIT"
    CUT_WORKER = "cut a worker's COMMIT"
    DELIVER_AGAIN = "deliver again"  # what was delivered, and in another order
    SEND_UNREADABLE = "send unreadable rows"  # as a tenant's role can, past enqueue()
    HOLD_LOCKS = "hold locks"  # of a tenant's rows, beside which its jobs hoard connections
    HOLD_BACK = "hold back"  # a tenant is suspended and another paused, and both are resumed


@dataclass(frozen=True)
class Scenario:
    """Messages, and what goes wrong meanwhile."""

    seed: int
    kind: Kind
    after: int  # effects
    workers: int  # there are
    killed: int  # of them
    seconds: float  # that sessions are terminated for
    number: int  # of the COMMIT that is cut, from when the fault begins

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed; kinds go round, so that the bounded campaign has them all."""
        chance = random.Random(seed)
        kinds = list(Kind)
        workers = 1 + seed % LANES % 2
        return cls(
            seed=seed,
            kind=kinds[seed % len(kinds)],
            after=chance.randint(0, LATEST),
            workers=workers,
            killed=chance.randint(1, workers),
            seconds=chance.uniform(0.5, 2.0),
            number=chance.randint(1, 6),
        )

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.workers} workers, {self.kind} after {self.after}"

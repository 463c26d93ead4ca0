"""What goes wrong while messages are handled, and when; a seed determines everything."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LANES: Final = 3  # concurrent scenarios, each on its own servers
TENANTS: Final = 4  # tenants with requests in a scenario
RELAYS: Final = 2
LATEST: Final = 16  # effects that exist when the fault begins; more must follow


class Kind(StrEnum):
    """What can go wrong."""

    KILL_WORKERS = "kill workers"  # others replace them
    KILL_RELAYS = "kill the relays"  # after starts that they have not recorded
    KILL_ONE_RELAY = "kill one relay of two"  # after a claim that it could not start
    FREEZE_RELAY = "freeze a relay"  # for longer than its lease; then it continues
    CRASH_TEMPORAL = "crash Temporal"  # and start it on the same file
    CRASH_POSTGRES = "crash PostgreSQL"  # and start it on the same data
    TERMINATE_SESSIONS = "terminate sessions"  # again and again for a while
    CUT_CLIENT = "cut a client's COMMIT"  # that is done, without its client knowing
    CUT_RELAY = "cut a relay's COMMIT"
    CUT_WORKER = "cut a worker's COMMIT"
    DELIVER_AGAIN = "deliver again"  # what was delivered, and in another order
    SEND_UNREADABLE = "send unreadable rows"  # as a tenant's role can, bypassing enqueue()
    HOLD_LOCKS = "hold locks"  # of a tenant's rows, while its jobs hoard connections
    HOLD_BACK = "hold back"  # one tenant is suspended and another paused, and both are resumed


@dataclass(frozen=True)
class Scenario:
    """Messages, and the fault while they are handled."""

    seed: int
    kind: Kind
    after: int  # effects
    workers: int  # there are
    killed: int  # of them
    seconds: float  # that sessions are terminated for
    number: int  # of the COMMIT that is cut, from when the fault begins

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """Returns the scenario of a seed; kinds rotate, so that a bounded campaign has them all."""
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

"""How a relay works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporal_tenancy.outbox.retries import LADDER, RetryLadder


@dataclass(frozen=True)
class RelayOptions:
    """How a relay works. The defaults are for a process of its own; tests wait for less."""

    batch: int = 256  # messages in one claim
    starts: int = 48  # workflows that are being started at once
    lease: timedelta = timedelta(seconds=60)  # after which another may take what was claimed
    poll: timedelta = timedelta(seconds=1)  # between looks without being told
    listens: bool = True  # is told of new messages; False: it only looks, once each `poll`
    claim_limit: timedelta = timedelta(seconds=1)  # of a claim's statements, which others wait for
    apart: timedelta = timedelta(minutes=5)  # after a tenant's last trouble with a claim
    keep_completed: timedelta = timedelta(minutes=1)
    upkeep: timedelta = timedelta(seconds=5)  # between looks for what was lost
    lost_page: int = 5_000  # lost messages that are looked at for whose they are, at once
    worked_off: timedelta = timedelta(minutes=5)  # before a workflow of several is asked after
    slot_unseen: timedelta = timedelta(minutes=1)  # before its workflow is asked whether it runs
    age_look: timedelta = timedelta(minutes=1)  # between looks at how long messages wait
    away: Sequence[timedelta] = (  # between attempts while a server is; the last repeats
        timedelta(seconds=0.5),
        timedelta(seconds=1),
        timedelta(seconds=2),
        timedelta(seconds=5),
    )
    ladder: RetryLadder = LADDER  # how often a message is tried, and when again

"""The options of a relay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.outbox.retries import LADDER, RetryLadder


@spelled
@dataclass(frozen=True)
class RelayOptions:
    """The sizes and timings of a relay. The defaults suit a process that runs one relay."""

    batch: int = 256  # messages per claim; while as many are in hand, the relay claims none
    starts: int = 48  # concurrent workflow starts
    lease: timedelta = timedelta(seconds=60)  # after it another relay may take a claimed message
    poll: timedelta = timedelta(seconds=1)  # between polls when nothing is found
    listens: bool = True  # wake on notifications; False: only poll
    # Per statement of a claim, which reads past all rows that a tenant has locked.
    claim_limit: timedelta = timedelta(seconds=1)
    quarantine: timedelta = timedelta(minutes=5)  # after a tenant's last failed or slow claim
    keep_completed: timedelta = timedelta(minutes=1)  # before a completed message is deleted
    upkeep: timedelta = timedelta(seconds=5)  # between searches for lost messages and slots
    lost_page: int = 5_000  # lost messages per page of a search
    worked_off: timedelta = timedelta(minutes=5)  # between checks on a workflow of several messages
    slot_unseen: timedelta = timedelta(minutes=1)  # between checks on the workflow of a slot
    age_look: timedelta = timedelta(minutes=1)  # between checks of how long messages wait
    # Tenants in databases of their own:
    store_connections: int = 8  # to their databases, at most; as many are visited at once
    store_poll: timedelta = timedelta(seconds=2)  # between looks at an outbox with nothing to do
    stop_within: timedelta = timedelta(seconds=20)  # from `stop()`; then connections are cut
    away: Sequence[timedelta] = (  # between attempts while a server is unreachable; last repeats
        timedelta(seconds=0.5),
        timedelta(seconds=1),
        timedelta(seconds=2),
        timedelta(seconds=5),
    )
    ladder: RetryLadder = LADDER  # how often and when a message is retried

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for what would visit no store at all."""
        if self.store_connections < 1:
            raise ConfigurationError(
                f"a relay needs a connection to visit tenants' databases, not "
                f"{self.store_connections}. Give it store_connections=1 or more."
            )

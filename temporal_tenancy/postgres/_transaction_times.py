"""When a transaction sent and received what, to tell which of its limits ended it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from temporal_tenancy.postgres.database_errors import (
    DatabaseProblem,
    idle_transaction,
    transaction_timeout,
)
from temporal_tenancy.postgres.session_limits import SessionLimits


@dataclass
class TransactionTimes:
    """The times of one transaction, on the monotonic clock, and its limits.

    They begin before the server's own: where the server's limit was reached, this clock says so.
    """

    limits: SessionLimits
    began: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)  # when the last statement ended
    sent: float | None = None  # when the one that is under way was sent; None: none is

    def send(self) -> None:
        """Notes that a statement is sent."""
        self.sent = time.monotonic()

    def answer(self) -> None:
        """Notes that it has ended."""
        self.answered, self.sent = time.monotonic(), None

    def limit_reached(self) -> DatabaseProblem | None:
        """Returns the error for the limit for which the server closed the connection, if any."""
        now = time.monotonic()
        if now - self.began >= self.limits.transaction.total_seconds():
            return transaction_timeout()
        idle = (now if self.sent is None else self.sent) - self.answered
        return idle_transaction() if idle >= self.limits.idle.total_seconds() else None

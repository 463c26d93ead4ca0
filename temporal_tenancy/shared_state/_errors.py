"""The errors of caches, locks and rates. All may go away, so Temporal retries after them."""

from __future__ import annotations

from datetime import timedelta

from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.problems import Problem


class SharedStateUnavailable(Problem):
    """Redis does not answer. A later attempt may succeed."""


class LockUnavailable(SharedStateUnavailable):
    """Redis does not answer, and nothing goes on without its lock. A later attempt may succeed."""


class LockTaken(Problem):
    """Another one holds the lock. A later attempt may succeed."""


class LockLost(Problem):
    """The lock ended or went to another one, so nothing more may be written under it."""


class RateUnavailable(SharedStateUnavailable):
    """Redis does not answer, and this rate admits nothing without it. Try again later."""


class RateLimited(ApplicationError):
    """The rate is used up. Temporal retries once it admits again."""

    def __init__(self, name: str, retry_after: timedelta) -> None:
        """
        Args:
            name: of the rate.
            retry_after: when the rate may admit again.
        """
        seconds = retry_after.total_seconds()
        super().__init__(
            f"the rate {name} is used up. Try again in {seconds:.1f} s.",
            type=type(self).__name__,
            next_retry_delay=retry_after,
        )
        self.retry_after = retry_after

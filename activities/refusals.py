"""What no retry can change."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio.exceptions import ApplicationError


class Refused(ApplicationError):
    """A job cannot be done as it was asked for. The failure's type is the class's name."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


def refuse_before(until: datetime, period: str, time_zone: str, error: type[Refused]) -> None:
    """Raises `error` while a period may still get events: until `until` (aware).

    What is written or counted once must not be so too early.
    """
    if until > datetime.now(UTC):
        end = until.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
        raise error(f"{period} is not over in {time_zone}. Run it after {end}.")

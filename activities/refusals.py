"""Errors of jobs that no retry can fix."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio.exceptions import ApplicationError


class Refused(ApplicationError):
    """A job cannot be done as requested. The failure's type is the name of the class."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


def refuse_before(until: datetime, period: str, time_zone: str, error: type[Refused]) -> None:
    """Raises `error` before `until` (aware), while a period may still get events.

    A result that is written only once must not be written too early.
    """
    if until > datetime.now(UTC):
        end = until.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
        raise error(f"{period} is not over in {time_zone}. Run it after {end}.")

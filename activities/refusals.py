"""Errors of jobs that no retry can fix."""

from __future__ import annotations

from datetime import UTC, datetime

from saas.refusals import Refused as Refused  # re-exported


def refuse_before(until: datetime, period: str, time_zone: str, error: type[Refused]) -> None:
    """Raises `error` before `until` (aware), while a period may still get events.

    A result that is written only once must not be written too early.
    """
    if until > datetime.now(UTC):
        end = until.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
        raise error(f"{period} is not over in {time_zone}. Run it after {end}.")

"""Time limits of tenants' transactions: in total, per statement, for locks and when idle."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Final

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.words import duration

_LEAST: Final = timedelta(milliseconds=1)  # the server's unit; 0 would be no limit
_MOST: Final = timedelta(days=24)  # the server counts milliseconds in 32 bits


@spelled
@dataclass(frozen=True)
class SessionLimits:
    """The four time limits of every tenant's transaction, each from 1 ms to 24 days.

    Raises `ConfigurationError` for a limit outside that range.
    """

    statement: timedelta = timedelta(seconds=30)  # one statement, including waits for locks
    lock: timedelta = timedelta(seconds=5)  # waiting for one lock
    idle: timedelta = timedelta(seconds=30)  # between two statements; closes the connection
    transaction: timedelta = timedelta(minutes=1)  # in total; closes the connection

    def __post_init__(self) -> None:
        for limit in fields(self):
            if not _LEAST <= getattr(self, limit.name) <= _MOST:
                raise ConfigurationError(
                    f"the limit {limit.name} of a session must be 1 ms to {duration(_MOST)}."
                )

    def milliseconds(self, limit: str) -> int:
        """Returns the limit in the field named `limit`, in whole milliseconds."""
        value: timedelta = getattr(self, limit)
        return value // timedelta(milliseconds=1)

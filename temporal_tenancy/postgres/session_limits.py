"""How long a tenant's transaction may take, wait and do nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Final

from temporal_tenancy.core.errors import ConfigurationError

_LEAST: Final = timedelta(milliseconds=1)  # the server's unit; 0 would be no limit
_MOST: Final = timedelta(days=24)  # what the server can count


@dataclass(frozen=True)
class SessionLimits:
    """What ends a transaction of a tenant's: every one has all four."""

    statement: timedelta = timedelta(seconds=30)  # a statement's time, its waiting too
    lock: timedelta = timedelta(seconds=5)  # waiting for one lock
    idle: timedelta = timedelta(seconds=30)  # between two statements; ends the connection
    transaction: timedelta = timedelta(minutes=1)  # in all; ends the connection

    def __post_init__(self) -> None:
        for each in fields(self):
            if not _LEAST <= getattr(self, each.name) <= _MOST:
                raise ConfigurationError(
                    f"the limit of a session's {each.name} is to be of 1 ms to {_MOST.days} days."
                )

    def milliseconds(self, limit: str) -> int:
        """The limit of that field, as the server takes it."""
        value: timedelta = getattr(self, limit)
        return value // timedelta(milliseconds=1)

"""Steps, and a model in which each tenant has its own tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any

TENANTS = ("aa", "AA", "cc")  # two differ only by case
FIRST_DAY = date(2013, 1, 1)
DAYS = 4


@dataclass
class Rows:
    """One tenant's tables."""

    usage: dict[date, int] = field(default_factory=dict)  # daily_usage: events by day
    flights: set[tuple[date, int]] = field(default_factory=set)  # usage_events: day and flight

    def flights_on(self, day: date) -> list[int]:
        return sorted(flight for flown, flight in self.flights if flown == day)


Model = dict[str, Rows]


@dataclass(frozen=True)
class Step:
    """One statement, sent for `tenant`; `other` is the tenant that it must not reach."""

    tenant: str
    other: str
    action: str
    day: date
    events: int

    @property
    def own(self) -> bool:
        """Whether both tenants happen to be the same."""
        return self.other == self.tenant

    @property
    def values(self) -> dict[str, Any]:
        return {
            "day": self.day,
            "events": self.events,
            "cancelled": 0,
            "distance": 0,
            "air_time": 0,
        }

    @property
    def foreign(self) -> dict[str, Any]:
        return self.values | {"tenant_id": self.other}


class Outcome(Enum):
    """The answer of an action that was refused."""

    REFUSED = "it is not the tenant's"  # by the database or the library
    DUPLICATE = "the tenant has that key"


REFUSED, DUPLICATE = Outcome.REFUSED, Outcome.DUPLICATE

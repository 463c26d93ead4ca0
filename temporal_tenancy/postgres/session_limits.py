"""Time limits of tenants' transactions: in total, per statement, for locks and when idle."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta

from temporal_tenancy.core.directory import LIMIT_MAX, LIMIT_MIN, Plan
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.words import duration


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
            if not LIMIT_MIN <= getattr(self, limit.name) <= LIMIT_MAX:
                raise ConfigurationError(
                    f"the limit {limit.name} of a session must be 1 ms to {duration(LIMIT_MAX)}."
                )

    def of_plan(self, plan: Plan) -> SessionLimits:
        """Returns the limits that `plan` sets, and these where it sets none."""
        limits = {
            "statement": plan.statement_timeout,
            "lock": plan.lock_timeout,
            "idle": plan.idle_timeout,
            "transaction": plan.transaction_timeout,
        }
        given = {name: limit for name, limit in limits.items() if limit is not None}
        return replace(self, **given) if given else self

    def milliseconds(self, limit: str) -> int:
        """Returns the limit in the field named `limit`, in whole milliseconds."""
        value: timedelta = getattr(self, limit)
        return value // timedelta(milliseconds=1)

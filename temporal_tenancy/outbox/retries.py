"""How often a message is tried, and how long it waits in between."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class RetryLadder(BaseModel):
    """After its nth attempt a message waits 2^n times `unit`; after the last it is dead.

    `attempts` is at least 1, `unit` longer than nothing; pydantic's `ValidationError` says so.
    """

    model_config = ConfigDict(frozen=True)

    attempts: int = Field(default=5, ge=1)
    unit: timedelta = Field(default=timedelta(minutes=1), gt=timedelta(0))

    def wait_after(self, attempts: int) -> timedelta | None:
        """How long to wait once so many attempts have failed; None: there is no further one."""
        return None if attempts >= self.attempts else self.unit * 2**attempts


LADDER: Final = RetryLadder()

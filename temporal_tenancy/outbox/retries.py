"""How often a message is retried, and with which backoff."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class RetryLadder(BaseModel):
    """An exponential backoff: after the nth failed attempt a message waits 2^n times `unit`.

    After the last attempt the message becomes a dead letter. By default a message gets 5 attempts,
    with waits of 2, 4, 8 and 16 minutes. The constructor raises pydantic's `ValidationError` if
    `attempts` is below 1 or `unit` is not positive.
    """

    model_config = ConfigDict(frozen=True)

    attempts: int = Field(default=5, ge=1)  # including the first
    unit: timedelta = Field(default=timedelta(minutes=1), gt=timedelta(0))  # half the first wait

    def wait_after(self, attempts: int) -> timedelta | None:
        """Returns the wait after `attempts` failed attempts, or None if no attempt is left."""
        return None if attempts >= self.attempts else self.unit * 2**attempts


LADDER: Final = RetryLadder()

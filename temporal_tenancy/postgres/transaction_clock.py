"""What ends a transaction that takes too long where the server does not count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from sqlalchemy import Dialect

from temporal_tenancy.postgres.database_errors import transaction_timeout

COUNTED_SINCE: Final = (17,)  # the version of PostgreSQL that has transaction_timeout


def counts_transactions(dialect: Dialect) -> bool:
    """Whether the server limits a transaction's time; no, as long as none has been reached."""
    return (dialect.server_version_info or ()) >= COUNTED_SINCE


class TransactionClock:
    """Cancels the code of a session whose transaction takes too long."""

    def __init__(self) -> None:
        self.timeout = asyncio.timeout(None)

    def begin(self, limit: timedelta) -> None:
        """Starts to count."""
        self._reschedule(asyncio.get_running_loop().time() + limit.total_seconds())

    def end(self) -> None:
        """Stops counting."""
        self._reschedule(None)

    def _reschedule(self, when: float | None) -> None:
        if not self.timeout.expired():
            self.timeout.reschedule(when)


@asynccontextmanager
async def transaction_clock(dialect: Dialect) -> AsyncIterator[TransactionClock | None]:
    """A clock for the session of the block; None where the server has one.

    Raises `TransactionTimeout`.
    """
    if counts_transactions(dialect):
        yield None
        return
    clock = TransactionClock()
    try:
        async with clock.timeout:
            yield clock
    except TimeoutError:
        if clock.timeout.expired():
            raise transaction_timeout() from None
        raise

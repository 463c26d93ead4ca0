"""Ends transactions that take too long, on servers without transaction_timeout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from sqlalchemy import Dialect

from temporal_tenancy.postgres.database_errors import transaction_timeout

COUNTED_SINCE: Final = (17,)  # the first version of PostgreSQL with transaction_timeout


def counts_transactions(dialect: Dialect) -> bool:
    """Whether the server limits a transaction's time; False before the first connection."""
    return (dialect.server_version_info or ()) >= COUNTED_SINCE


class TransactionClock:
    """A timeout that cancels a session's code when its transaction takes too long."""

    def __init__(self) -> None:
        self.timeout = asyncio.timeout(None)

    def begin(self, limit: timedelta) -> None:
        """Starts the timeout of one transaction."""
        self._reschedule(asyncio.get_running_loop().time() + limit.total_seconds())

    def end(self) -> None:
        """Stops the timeout."""
        self._reschedule(None)

    def check(self) -> None:
        """Raises `TransactionTimeout` if time is up, but code has swallowed the cancellation.

        On Python 3.11 `asyncio.wait_for()` does when what it waits for ends at the same moment.
        """
        if self.timeout.expired():
            raise transaction_timeout()

    def _reschedule(self, when: float | None) -> None:
        if not self.timeout.expired():
            self.timeout.reschedule(when)


@asynccontextmanager
async def transaction_clock(dialect: Dialect) -> AsyncIterator[TransactionClock | None]:
    """Yields a clock for the block's session; None if the server limits transactions itself.

    Raises `TransactionTimeout` if the clock ran out in the block.
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

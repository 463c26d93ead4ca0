"""One cap on the open connections of several pools, and the servers behind them.

No session waits here. A session that opens a connection has been granted one by the pools' common
`ConnectionShares`, which grants no more than the cap. So when the cap is reached, one of the open
connections is idle, and is closed in favour of the new one: that of the pool that has been used
least recently. Waiting for a session that waits for this one, a deadlock, cannot come up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.database_errors import PoolExhausted

if TYPE_CHECKING:
    from temporal_tenancy.postgres._shared_pool import SharedPool


class ConnectionCap:
    """Counts the open connections of its pools, and makes room for a new one."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.pools: WeakSet[SharedPool] = WeakSet()
        self._opening = 0

    def count(self) -> int:
        """The number of connections that are open or being opened; safe in any thread."""
        return self._opening + sum(pool.count_open() for pool in list(self.pools))

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Opens a connection in the block, within SQLAlchemy's greenlet.

        Raises `PoolExhausted` if all are in use, which the shares rule out.
        """
        while self.count() >= self.most:
            if not self._close_one():
                raise PoolExhausted(
                    f"all of this process's {number(self.most, 'connection')} are in use. Try "
                    "again; if this happens often, give it a larger max_connections."
                )
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    def _close_one(self) -> bool:
        """Closes the idle connection of the pool used least recently; returns whether it did."""
        idle = [pool for pool in self.pools if pool.checkedin()]
        return any(pool.close_idle() for pool in sorted(idle, key=lambda pool: pool.used))

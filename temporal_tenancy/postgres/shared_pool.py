"""A pool of connections that no tenant holds all of."""

from __future__ import annotations

from typing import Any

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_only

from temporal_tenancy.postgres.connection_shares import ConnectionShares, Holder
from temporal_tenancy.postgres.pool_share import PoolShare


class SharedPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's own pool, behind `ConnectionShares`.

    Whoever is granted a connection finds one there: no more are granted than there may be.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # as the pool of SQLAlchemy
        super().__init__(*args, **options)
        self.shares = ConnectionShares(PoolShare(self.size()))
        self._holders: dict[ConnectionPoolEntry, Holder] = {}

    def recreate(self) -> SharedPool:
        """An empty pool that is shared in the same way."""
        pool = super().recreate()
        assert isinstance(pool, SharedPool)
        pool.shares = ConnectionShares(self.shares.share)
        return pool

    def _do_get(self) -> ConnectionPoolEntry:
        holder = self.shares.current()
        if not self.shares.take(holder):
            await_only(self.shares.wait(holder))
        try:
            record = super()._do_get()
        except BaseException:
            self.shares.give_back(holder)
            raise
        self._holders[record] = holder
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        holder = self._holders.pop(record, None)
        try:
            super()._do_return_conn(record)
        finally:
            if holder is not None:
                self.shares.give_back(holder)

"""A connection pool that no single tenant can use up."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakSet

import psycopg
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from temporal_tenancy.core.observations import ConnectionHeld, is_observed, observe
from temporal_tenancy.postgres._connection_shares import ConnectionShares, Holder
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.silent_servers import cut


class SharedPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's own pool, behind `ConnectionShares`.

    Code that was granted a connection never waits in SQLAlchemy's pool, because
    `ConnectionShares` grants no more than the pool's size.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # SQLAlchemy's arguments
        super().__init__(*args, **options)
        self.shares = ConnectionShares(PoolShare(self.size()))
        self.opened: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()
        # Each with the time since when it holds the connection, on the monotonic clock.
        self._holders: dict[ConnectionPoolEntry, tuple[Holder, float]] = {}

    def recreate(self) -> SharedPool:
        """Returns an empty pool with the same sharing."""
        pool = super().recreate()
        assert isinstance(pool, SharedPool)
        pool.shares = ConnectionShares(self.shares.share)
        pool.opened = self.opened
        return pool

    def cut(self) -> None:
        """Ends the traffic of all connections, in use or not: what waits for one gets an error."""
        for connection in self.opened:
            cut(connection)

    def connect(self) -> PoolProxiedConnection:
        """Returns a connection.

        Raises:
            DatabaseUnreachable: the server closed each one, the new ones too.
        """
        try:
            return super().connect()
        except InvalidRequestError:  # SQLAlchemy has tried as often as it does
            raise DatabaseUnreachable(
                "the server closed each connection as soon as it was open. Try again."
            ) from None

    def _do_get(self) -> ConnectionPoolEntry:
        holder = self.shares.current()
        if not self.shares.take(holder):
            await_only(self.shares.wait(holder))
        try:
            record = super()._do_get()
        except BaseException:
            self.shares.give_back(holder)
            raise
        self._holders[record] = holder, time.monotonic()
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        held = self._holders.pop(record, None)
        try:
            super()._do_return_conn(record)
        finally:
            if held is not None:
                self.shares.give_back(held[0])
                if is_observed():
                    observe(_observation(*held))


def _observation(holder: Holder, since: float) -> ConnectionHeld:
    return ConnectionHeld(
        pool="platform" if holder.tenant_id is None else "tenant",
        tenant_id=holder.tenant_id,
        job=None if holder.work is None else holder.work.job,
        seconds=time.monotonic() - since,
    )

"""A connection pool that no single tenant can use up."""

from __future__ import annotations

import logging
import time
from typing import Any
from weakref import WeakSet

import psycopg
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import (
    AsyncAdaptedQueuePool,
    ConnectionPoolEntry,
    PoolProxiedConnection,
)
from sqlalchemy.util import await_only
from sqlalchemy.util.queue import Empty

from temporal_tenancy.core.observations import ConnectionHeld, is_observed, observe
from temporal_tenancy.postgres._connection_cap import ConnectionCap
from temporal_tenancy.postgres._connection_shares import ConnectionShares, Holder
from temporal_tenancy.postgres._servers import Server, ServerSilent
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, store_unreachable
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.silent_servers import cut

# SQLAlchemy names a pool's logger after its class: its lines would be among the library's events.
logging.getLogger(f"{__name__}.SharedPool").setLevel(logging.WARNING)


class SharedPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's own pool, behind `ConnectionShares`.

    Code that was granted a connection never waits in SQLAlchemy's pool, because
    `ConnectionShares` grants no more than the pool's size.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # SQLAlchemy's arguments
        super().__init__(*args, **options)
        self.shares = ConnectionShares(PoolShare(self.size()))
        self.opened: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()
        self.cap: ConnectionCap | None = None  # on the connections of several pools
        self.server: Server | None = None  # of stores
        self.used = 0.0  # when it was last used, on the monotonic clock
        self._is_retired = False  # keeps no connection
        # Each with the time since when it holds the connection, on the monotonic clock.
        self._holders: dict[ConnectionPoolEntry, tuple[Holder, float]] = {}

    def recreate(self) -> SharedPool:
        """Returns an empty pool with the same sharing."""
        pool = super().recreate()
        assert isinstance(pool, SharedPool)
        pool.shares = ConnectionShares(self.shares.share)
        pool.opened = self.opened
        pool.server = self.server
        if self.cap is not None:
            self.cap.pools.discard(self)  # both have the same connections
            pool.join(self.cap)
        return pool

    def join(self, cap: ConnectionCap) -> None:
        """Opens connections within `cap` from now on."""
        self.cap = cap
        cap.pools.add(self)

    def count_open(self) -> int:
        """The number of open connections, in use or idle; safe in any thread."""
        return sum(not connection.closed for connection in list(self.opened))

    def close_idle(self) -> bool:
        """Closes the connection that has been idle longest; returns whether there was one."""
        while True:
            try:
                record = self._pool.get(False)
            except Empty:
                return False
            was_open = record.dbapi_connection is not None
            try:
                record.close()
            finally:
                self._dec_overflow()
            if was_open:
                return True

    def retire(self) -> None:
        """Closes the idle connections now, and those in use when they come back."""
        self._is_retired = True
        while self.close_idle():
            pass

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
        self.used = time.monotonic()
        tries = self._admit(holder)
        try:
            if not self.shares.take(holder):
                await_only(self.shares.wait(holder))
            try:
                record = super()._do_get()
            except BaseException:
                self.shares.give_back(holder)
                raise
        finally:
            if tries is not None:
                tries.dismiss()
        self._holders[record] = holder, time.monotonic()
        return record

    def _admit(self, holder: Holder) -> Server | None:
        """Waits, before it takes a connection, while another session tries a silent server.

        Returns the server if this session is the one that tries.
        """
        if self.server is None or self.checkedin():
            return None
        try:
            return self.server if await_only(self.server.admit(holder)) else None
        except ServerSilent:
            raise store_unreachable(holder.store, "does not answer") from None

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        held = self._holders.pop(record, None)
        try:
            super()._do_return_conn(record)
            if self._is_retired:
                self.close_idle()
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

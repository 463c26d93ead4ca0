"""The engines of a process: their options, and how they open connections."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Dialect, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from temporal_tenancy.postgres._connection_cap import ConnectionCap
from temporal_tenancy.postgres._connection_shares import ConnectionShares, current_store
from temporal_tenancy.postgres._every_time import read_every_time
from temporal_tenancy.postgres._guarded_connection import GuardedConnection, TenantConnection
from temporal_tenancy.postgres._servers import Server, ServerSilent
from temporal_tenancy.postgres._shared_pool import SharedPool
from temporal_tenancy.postgres.database_errors import rejection, store_unreachable
from temporal_tenancy.postgres.database_urls import (
    CONNECT_TIMEOUT,
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE,
    KEEPALIVE_INTERVAL,
)
from temporal_tenancy.postgres.silent_servers import silence_watch

STORE_CONNECT_TIMEOUT: Final = 5.0  # seconds, over all addresses of the host
# Seconds that a store's server may leave sent data unacknowledged.
STORE_ACKNOWLEDGE_TIMEOUT: Final = 15


def make_engine(
    url: URL,
    shares: ConnectionShares,
    application_name: str,
    kind: type[GuardedConnection],
    cap: ConnectionCap | None = None,
    server: Server | None = None,
) -> AsyncEngine:
    """Returns an engine without connections.

    Args:
        url: of the database.
        shares: grants the engine's connections.
        application_name: the name that `pg_stat_activity` shows.
        kind: the class of the connections.
        cap: on the open connections of all engines that have it; None: none but the pool's size.
        server: the server, if the engine is of stores: their errors then name the store alone.
    """
    options: dict[str, str | int | None] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT if server is None else int(STORE_CONNECT_TIMEOUT),
        "keepalives": 1,
        "keepalives_idle": KEEPALIVE_IDLE,
        "keepalives_interval": KEEPALIVE_INTERVAL,
        "keepalives_count": KEEPALIVE_COUNT,
    }
    if server is not None:
        options["tcp_user_timeout"] = STORE_ACKNOWLEDGE_TIMEOUT * 1_000
    engine = create_async_engine(
        url,
        poolclass=SharedPool,
        pool_size=shares.share.size,
        max_overflow=0,
        # The guard resets connections itself, more thoroughly.
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={name: value for name, value in options.items() if name not in url.query}
        # No prepared statements: behind a transaction pooler, the next transaction may run on
        # another server connection, which does not have them.
        | {
            "prepare_threshold": None,
            "async_creator_fn": kind.connect if server is None else _connect_to_store,
        },
    )
    pool = pool_of(engine)
    pool.shares, pool.server = shares, server
    if cap is not None:
        pool.join(cap)
    event.listen(engine.sync_engine, "do_connect", _opening(engine))
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    read_every_time(engine.sync_engine)
    return engine


def pool_of(engine: AsyncEngine) -> SharedPool:
    """Returns the pool of one of these engines."""
    pool = engine.pool
    assert isinstance(pool, SharedPool)
    return pool


def shares_of(engine: AsyncEngine) -> ConnectionShares:
    """Returns what grants the connections of one of these engines."""
    return pool_of(engine).shares


def _opening(engine: AsyncEngine) -> Callable[..., DBAPIConnection]:
    def connect(
        dialect: Dialect, record: ConnectionPoolEntry, arguments: Any, options: Any
    ) -> DBAPIConnection:
        pool = pool_of(engine)
        limits = pool.cap.opening() if pool.cap is not None else nullcontext()
        attempt = pool.server.attempt() if pool.server is not None else nullcontext()
        watch = silence_watch()
        if watch is not None and (reason := watch.reason(engine.url)):
            raise psycopg.OperationalError(reason)
        try:
            with limits, attempt:
                connection: DBAPIConnection = dialect.connect(*arguments, **options)
                driver = getattr(connection, "driver_connection", None)
                if isinstance(driver, psycopg.AsyncConnection):
                    pool.opened.add(driver)
                    if watch is not None:
                        watch.watch(driver, engine.url)
                return connection
        except ServerSilent:
            raise store_unreachable(current_store(), "does not answer") from None

    return connect


async def _connect_to_store(*arguments: Any, **options: Any) -> psycopg.AsyncConnection[Any]:
    """Connects to a store; its errors contain nothing of the URL.

    Raises:
        ServerSilent: the server did not answer in time.
        DatabaseUnreachable: it refused the connection, or is not there.
    """
    why = ""
    try:
        async with asyncio.timeout(STORE_CONNECT_TIMEOUT):
            return await TenantConnection.connect(*arguments, **options)
    except (TimeoutError, psycopg.errors.ConnectionTimeout):
        pass
    except psycopg.Error as error:
        why = rejection(error) or "refused the connection"
    if not why:
        raise ServerSilent
    raise store_unreachable(current_store(), why)


def _replace_closed(
    connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
) -> None:
    """Makes the pool reconnect if the server has closed the connection.

    A server that closes a connection sends a message first, so an idle socket with data to read is
    closed. A ping would cost a round trip at the start of every session.
    """
    driver = getattr(connection, "driver_connection", None)
    if isinstance(driver, psycopg.AsyncConnection) and _has_unread_data(driver):
        raise DisconnectionError("the server has closed this connection.")


def _has_unread_data(connection: psycopg.AsyncConnection[Any]) -> bool:
    if connection.closed:
        return True
    poll = select.poll()  # select() would reject large file descriptors
    poll.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))

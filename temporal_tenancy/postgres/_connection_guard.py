"""Checks on every connection: each statement runs in the right scope, and no state outlives it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, CursorResult, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from temporal_tenancy.core.errors import ScopeMissing, TenantMismatch
from temporal_tenancy.core.scope import (
    last_scope,
)
from temporal_tenancy.postgres._connection_shares import current_store
from temporal_tenancy.postgres._guarded_connection import GuardedConnection, TenantConnection
from temporal_tenancy.postgres._shared_pool import SharedPool
from temporal_tenancy.postgres._transaction_clock import TransactionClock
from temporal_tenancy.postgres._transaction_stamp import TransactionStamp
from temporal_tenancy.postgres._transaction_times import TransactionTimes
from temporal_tenancy.postgres.database_errors import (
    DatabaseProblem,
    is_lost,
    refused_by_policy,
    store_unreachable,
    timed_out,
    unreachable,
    withhold_conversion,
    withhold_parameters,
    withhold_values,
)
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.silent_servers import silence_watch

_YES: Final = "true"  # as the server writes it in text
# The key in the pool's record of the search_path that the connection was opened with.
_PATH: Final = "temporal_tenancy.search_path"

# Sent as one message when a connection returns to the pool, or together with the commit before it,
# so that a pooler in transaction mode gives both to one connection of the server. The first
# statement detects a setting, role or search_path that outlived its transaction; the others clear
# everything else (a WITH HOLD cursor or a temporary table still has a tenant's rows, an advisory
# lock blocks the next tenant). DISCARD ALL clears as much but detects nothing and must be sent
# alone, which would make two round trips.
# Measured on one machine: 0.17 ms, of which 0.15 ms are the round trip.
_CHECK_AND_RESET: Final = """
    select
        (coalesce(current_setting('app.tenant_id', true), '') <> '')::text,
        (current_user <> session_user)::text,
        current_setting('search_path');
    reset session authorization;
    reset all;
    close all;
    deallocate all;
    unlisten *;
    select pg_advisory_unlock_all();
    discard temp
"""

log: Final = logging.getLogger(__name__)


@contextmanager
def stamp(
    connection: Connection,
    tenant_id: str,
    limits: SessionLimits,
    clock: TransactionClock | None = None,
    store: str | None = None,
) -> Iterator[None]:
    """Marks the transaction of `connection` as `tenant_id`'s; the block must set it on the server.

    `limits` are those that the block sets: they tell why the server closed a connection. Once
    `clock` has run out, the transaction takes no statement and does not commit. If the block
    raises, the mark is removed and the transaction cannot be used.
    """
    _refuse_autocommit(connection)
    driver = _driver(connection.connection.dbapi_connection)
    if not isinstance(driver, TenantConnection):  # the leak check's
        yield
        return
    driver.stamp = TransactionStamp(tenant_id, clock, TransactionTimes(limits), store)
    try:
        driver.stamp.require_tenant()
        with driver.own_statements():
            yield
    except BaseException:
        # Code that ignores the error and uses this session gets ScopeMissing, not an empty result.
        driver.stamp = None
        raise


def _refuse_autocommit(connection: Connection) -> None:
    if _driver(connection.connection.dbapi_connection).autocommit:
        raise ScopeMissing(
            "a tenant's statements need a transaction, but this connection is in AUTOCOMMIT mode. "
            "Use tenant_session() without changing its isolation level."
        )


def begin_with(connection: Connection, message: str) -> CursorResult[Any]:
    """Begins the transaction of `connection` on the server, in one message with its first one.

    The driver would send BEGIN by itself, and wait for its answer. It does not know of this one,
    so it takes the connection for one in autocommit mode until it returns to the pool. A
    transaction that has begun before, as that of the leak check, gets the message alone.

    Args:
        connection: in a transaction in which the session has sent nothing.
        message: statements without placeholders.
    """
    adapted = connection.connection.dbapi_connection
    driver = _driver(adapted)
    assert adapted is not None
    is_idle = driver.pgconn.transaction_status == TransactionStatus.IDLE
    if is_idle and not driver.autocommit:  # the platform's own code may have asked for that
        assert isinstance(driver, GuardedConnection)
        message = f"{driver.beginning()}; {message}"
        adapted.set_autocommit(True)
    return connection.exec_driver_sql(message, execution_options={"no_parameters": True})


def guard_engine(engine: Engine) -> None:
    """Refuses every statement and commit on `engine` that is not of its connections' own scope.

    A connection that returns to the pool with state left on it is closed.
    """
    event.listen(engine, "connect", _guard_connection)
    event.listen(engine, "handle_error", _translate_error)
    event.listen(engine, "reset", _reset_connection)


def _translate_error(context: ExceptionContext) -> BaseException | None:
    """Removes row values from an error; gives policy, limit and connection errors own types."""
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    if not isinstance(original, psycopg.Error):
        if isinstance(original, Exception) and isinstance(wrapped, StatementError):
            withhold_conversion(wrapped, original)
        return None
    foreign = refused_by_policy(original)
    reason = original.diag.message_primary
    withhold_values(original)
    if isinstance(wrapped, DBAPIError):
        withhold_parameters(wrapped)
    if foreign:
        return TenantMismatch(
            f"row-level security refused a row that does not belong to {last_scope()}: {reason}. "
            "Leave the tenant's column out: the session sets it."
        )
    if (silent := _silence(context, original)) is not None:
        return silent
    limit = timed_out(original)
    if limit is None and is_lost(original):
        limit = _limit_reached(context.connection)
    if limit is not None:
        return limit
    if context.engine is not None and (context.connection is None or context.is_disconnect):
        return _away(context.engine, context.connection, original, "ended a connection")
    return None


def _away(
    engine: Engine, connection: Connection | None, error: psycopg.Error, why: str
) -> DatabaseProblem:
    """Returns the error for a server that is away; of a store it has the name and `why` alone."""
    if isinstance(engine.pool, SharedPool) and engine.pool.server is not None:
        return store_unreachable(_store_of(connection), why)
    return unreachable(engine.url, error)


def _silence(context: ExceptionContext, error: psycopg.Error) -> DatabaseProblem | None:
    """Returns the error for a server that a command has found silent; None for any other."""
    watch = silence_watch()
    if watch is None or context.engine is None:
        return None
    url = context.engine.url
    if context.connection is None and isinstance(error, psycopg.errors.ConnectionTimeout):
        watch.note(url, str(error))
    reason = watch.reason(url) if is_lost(error) else None
    if reason is None:
        return None
    error = psycopg.OperationalError(reason)
    return _away(context.engine, context.connection, error, "does not answer")


def _limit_reached(connection: Connection | None) -> DatabaseProblem | None:
    """Returns the error for the limit that the lost connection's transaction had reached."""
    stamped = _stamp_of(connection)
    return None if stamped is None else stamped.times.limit_reached()


def _store_of(connection: Connection | None) -> str | None:
    stamped = _stamp_of(connection)
    return current_store() if stamped is None else stamped.store


def _stamp_of(connection: Connection | None) -> TransactionStamp | None:
    if connection is None or connection.invalidated:
        return None
    driver = _driver(connection.connection.dbapi_connection)
    return driver.stamp if isinstance(driver, TenantConnection) else None


def _reset_connection(
    connection: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState
) -> None:
    if state.terminate_only or not state.asyncio_safe:
        return  # it is being closed, and nothing may be sent on it
    driver = _driver(connection)
    if isinstance(driver, TenantConnection):
        driver.stamp = None
    if isinstance(driver, GuardedConnection):
        driver.restore()
    left = []
    if driver.info.transaction_status != TransactionStatus.IDLE:
        left.append("transaction")
    else:
        done = driver.take_row_with_commit() if isinstance(driver, GuardedConnection) else None
        tenant, role, path = done or rows_of(connection, _CHECK_AND_RESET)[0]
        if driver.autocommit:
            connection.set_autocommit(False)
        left += ["tenant"] if tenant == _YES else []
        left += ["role"] if role == _YES else []
        left += ["search_path"] if path != record.info.get(_PATH, path) else []
    if left:
        log.error("database.connection_discarded", extra={"left_behind": left})
        record.invalidate()


def _guard_connection(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    driver = _driver(connection)
    assert isinstance(driver, GuardedConnection)
    if isinstance(driver, TenantConnection):
        [(record.info[_PATH],)] = rows_of(connection, "select current_setting('search_path')")
        connection.set_autocommit(False)
    driver.guard(_CHECK_AND_RESET)


def rows_of(connection: DBAPIConnection, message: str) -> list[tuple[Any, ...]]:
    """Sends a message of the library's own outside a transaction; returns its first rows.

    The connection is in autocommit mode afterwards: BEGIN and COMMIT would make it three round
    trips.
    """
    # Through the adapter, which can await inside SQLAlchemy's greenlet.
    if not _driver(connection).autocommit:
        connection.set_autocommit(True)
    with own_statements(connection):
        cursor = connection.cursor()
        cursor.execute(message)
        rows = [tuple(row) for row in cursor.fetchall()]
        cursor.close()
    return rows


def _driver(connection: DBAPIConnection | None) -> psycopg.AsyncConnection:
    return cast(psycopg.AsyncConnection, getattr(connection, "driver_connection", connection))


def own_statements(connection: DBAPIConnection | None) -> AbstractContextManager[None]:
    driver = _driver(connection)
    return driver.own_statements() if isinstance(driver, GuardedConnection) else nullcontext()

"""A tenant's transaction on a psycopg connection that the application opened itself.

It has the first wall of a `tenant_session()`, row-level security, and the session's limits. It has
no statement guard: SQL in the block can end the transaction or change its tenant, which is noticed
at the end of the block at the latest.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar, overload
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import TextClause, text

from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing, TenantMismatch
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.postgres import tenant_owned
from temporal_tenancy.postgres._excess_rights import refuse_excess_rights
from temporal_tenancy.postgres._transaction_clock import COUNTED_SINCE
from temporal_tenancy.postgres.database import refuse_workflow_code
from temporal_tenancy.postgres.database_errors import (
    refused_by_policy,
    timed_out,
    transaction_timeout,
    withhold_values,
)
from temporal_tenancy.postgres.installation import SCHEMA
from temporal_tenancy.postgres.raw_session import RawConnection, RawSession, compiled, finish
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.unfinished import Unfinished

SyncConnection = TypeVar("SyncConnection", bound=psycopg.Connection[Any])
AsyncConnection = TypeVar("AsyncConnection", bound=psycopg.AsyncConnection[Any])

_COUNTED_SINCE: Final = COUNTED_SINCE[0] * 10_000  # as the driver writes versions

# Deferred triggers still belong to the tenant, and run before the setting ends. Setting it to
# nothing for the session undoes a SET without LOCAL, which the commit would keep. A cursor declared
# WITH HOLD and a temporary table would keep a tenant's rows.
_FIRE_DEFERRED: Final = "set constraints all immediate"
_LEFT: Final = """
    select
        coalesce(current_setting('app.tenant_id', true), '') as tenant,
        current_user::text as role,
        pg_my_temp_schema() <> 0 as has_temporary,
        array(
            select name from pg_catalog.pg_cursors where name <> '' and creation_time >= now()
        ) as cursors,
        set_config('app.tenant_id', '', false)
"""


@dataclass
class OpenTransaction:
    """The open transaction of a raw connection."""

    tenant: str
    role: str  # the one that it began as
    ends: float | None  # on the monotonic clock, in seconds; None: the server limits it
    schema: str  # of the library's tables
    unfinished: Unfinished = field(default_factory=Unfinished)


_open: Final[WeakKeyDictionary[RawConnection, OpenTransaction]] = WeakKeyDictionary()
# The current and the login role whose rights were found to be few enough.
_checked: Final[WeakKeyDictionary[RawConnection, tuple[str, str]]] = WeakKeyDictionary()


@overload
def tenant_transaction(
    connection: SyncConnection, *, limits: SessionLimits | None = None, schema: str = SCHEMA
) -> AbstractContextManager[SyncConnection]: ...


@overload
def tenant_transaction(
    connection: AsyncConnection, *, limits: SessionLimits | None = None, schema: str = SCHEMA
) -> AbstractAsyncContextManager[AsyncConnection]: ...


def tenant_transaction(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    *,
    limits: SessionLimits | None = None,
    schema: str = SCHEMA,
) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
    """Runs the block in one transaction of the current tenant, on a psycopg 3 connection.

    `with tenant_transaction(connection):`, or `async with` for an `AsyncConnection`. It commits at
    the end of the block, and rolls back on an error or if the scope has closed or changed by then.
    Inside another block on the same connection it is a savepoint.

    Args:
        connection: not in a transaction; in autocommit mode or not. It logs in as the tenant role.
        limits: the transaction's time limits; None: those of `SessionLimits()`. Ignored in a
            savepoint.
        schema: the one that the library's tables are in, for `enqueue_in()`.

    Raises:
        ScopeMissing: no tenant scope is open, this is workflow code, or the connection is in a
            transaction already; nothing was sent. At the end of the block: the scope has closed, or
            SQL in the block ended the transaction.
        TenantMismatch: the scope or the connection's transaction is another tenant's, or a row is.
        NotAwaited: a request or an event of the block was not awaited; it was rolled back.
        ExcessRights: row-level security does not apply to the connection's role.
        ConfigurationError: `connection` is not a psycopg 3 connection.
        LockHeld, StatementTimeout, IdleTransaction, TransactionTimeout: a limit was reached.
        psycopg.Error: any other database error, without values of rows once it leaves the block.
    """
    if isinstance(connection, psycopg.AsyncConnection):
        return _async_transaction(connection, limits, schema)
    if isinstance(connection, psycopg.Connection):
        return _sync_transaction(connection, limits, schema)
    raise ConfigurationError(
        "tenant_transaction() takes a psycopg.Connection or psycopg.AsyncConnection, not "
        f"{type(connection).__name__}. Take a connection from the pool or adapter first."
    )


@contextmanager
def _sync_transaction(
    connection: psycopg.Connection[Any], limits: SessionLimits | None, schema: str
) -> Iterator[psycopg.Connection[Any]]:
    tenant = current_tenant_of_this_code()
    is_nested = joins(connection, tenant)
    with translated_errors(tenant), connection.transaction():
        if is_nested:
            yield connection
            require_tenant(tenant)
            return
        with begun(connection, tenant, limits, schema):
            yield connection
            finish(prepare_commit(connection))


@asynccontextmanager
async def _async_transaction(
    connection: psycopg.AsyncConnection[Any], limits: SessionLimits | None, schema: str
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    tenant = current_tenant_of_this_code()
    is_nested = joins(connection, tenant)
    with translated_errors(tenant):
        async with connection.transaction():
            if is_nested:
                yield connection
                require_tenant(tenant)
                return
            try:
                await begin(connection, tenant, limits, schema)
                yield connection
                await prepare_commit(connection)
            finally:
                _open.pop(connection, None)


@contextmanager
def begun(
    connection: psycopg.Connection[Any], tenant: str, limits: SessionLimits | None, schema: str
) -> Iterator[None]:
    """Makes the transaction that `connection` has just begun `tenant`'s, inside the block."""
    try:
        finish(begin(connection, tenant, limits, schema))
        yield
    finally:
        _open.pop(connection, None)


def current_tenant_of_this_code() -> str:
    """Returns the current tenant; raises `ScopeMissing` without one, and in workflow code."""
    refuse_workflow_code()
    return current_tenant()


def joins(connection: RawConnection, tenant: str) -> bool:
    """Whether a block of `tenant` on `connection` is a savepoint; False: it is a transaction.

    Raises:
        TenantMismatch: the open transaction belongs to another tenant.
        ScopeMissing: the open transaction was not begun for a tenant.
    """
    found = _open.get(connection)
    status = connection.info.transaction_status
    if found is not None:
        _require_same(found.tenant, tenant)
        if status == TransactionStatus.IDLE:
            raise _ended_by_sql(tenant)
        return True
    if status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):  # UNKNOWN: closed
        raise ScopeMissing(
            f"this connection is in a transaction that was not begun for tenant {tenant}. Commit "
            "it or roll it back first; a connection in autocommit mode begins none by itself."
        )
    return False


async def begin(
    connection: RawConnection, tenant: str, limits: SessionLimits | None, schema: str
) -> None:
    """Makes the transaction that `connection` has just begun `tenant`'s, until it ends.

    Raises:
        ExcessRights: row-level security does not apply to the connection's role.
    """
    session = RawSession(connection)
    limits = limits or SessionLimits()
    by_server = connection.info.server_version >= _COUNTED_SINCE
    ends = None if by_server else time.monotonic() + limits.transaction.total_seconds()
    [row] = await session.send(compiled(_first_statement(limits, by_server)), {"tenant": tenant})
    roles = (row.role, row.login)
    if _checked.get(connection) != roles:
        await refuse_excess_rights(session)
        _checked[connection] = roles
    _open[connection] = OpenTransaction(tenant, row.role, ends, schema)


async def prepare_commit(connection: RawConnection) -> None:
    """Checks the transaction before its commit, and takes everything off it that would outlive it.

    Raises:
        ScopeMissing: the scope has closed, or SQL ended the transaction.
        TenantMismatch: the scope or the transaction is another tenant's, or SQL changed the role.
        NotAwaited: work of the block has not finished.
        TransactionTimeout: it took too long, on a server that does not limit transactions.
    """
    open_transaction = _open[connection]
    tenant = open_transaction.tenant
    require_tenant(tenant)
    open_transaction.unfinished.require_none()
    if open_transaction.ends is not None and time.monotonic() > open_transaction.ends:
        raise transaction_timeout()
    if connection.info.transaction_status == TransactionStatus.IDLE:
        await _close(connection)
        raise _ended_by_sql(tenant)
    session = RawSession(connection)
    await session.command(_FIRE_DEFERRED)
    [left] = await session.send(_LEFT)
    if left.tenant != tenant or left.role != open_transaction.role:
        # What it set may have been committed on the way.
        await _close(connection)
        if not left.tenant:
            raise _ended_by_sql(tenant)
        raise TenantMismatch(
            f'SQL in this block changed the tenant or role of a transaction of "{tenant}". It was '
            "rolled back, and the connection closed. Do not set either."
        )
    for cursor in left.cursors:
        await session.command(
            sql.SQL("close {}").format(sql.Identifier(cursor)).as_string(connection)
        )
    if left.has_temporary:
        await session.command("discard temp")


def bound_session(connection: RawConnection) -> RawSession:
    """Returns a session for the library's statements in the open transaction of `connection`.

    Raises:
        ScopeMissing: no transaction of a tenant is open on it, or SQL ended it, or no scope is
            open.
        TenantMismatch: the transaction belongs to another tenant than the scope.
    """
    tenant = current_tenant_of_this_code()
    found = _open.get(connection)
    if found is None:
        raise ScopeMissing(
            "no transaction of a tenant is open on this connection. Call it inside: with "
            "tenant_transaction(connection)."
        )
    _require_same(found.tenant, tenant)
    if connection.info.transaction_status == TransactionStatus.IDLE:
        raise _ended_by_sql(tenant)
    return RawSession(connection, found.schema, found.unfinished)


def require_tenant(tenant: str) -> None:
    """Raises unless the current scope is open, and `tenant`'s."""
    _require_same(tenant, current_tenant())


@contextmanager
def translated_errors(tenant: str) -> Iterator[None]:
    """Removes row values from the driver's errors; gives policy and limit errors own types."""
    try:
        yield
    except psycopg.Error as error:
        problem = translated(error, tenant)
        if problem is None:
            raise
        raise problem from error


def translated(error: psycopg.Error, tenant: str) -> Exception | None:
    """Removes row values from `error`; returns the library's own error for it, if it has one."""
    is_foreign, reason = refused_by_policy(error), error.diag.message_primary
    withhold_values(error)
    if is_foreign:
        return TenantMismatch(
            f"row-level security refused a row that does not belong to tenant {tenant}: {reason}. "
            "Write the current tenant's id."
        )
    return timed_out(error)


@lru_cache
def _first_statement(limits: SessionLimits, by_server: bool) -> TextClause:
    setting = tenant_owned._set_tenant(limits, by_server).text
    return text(
        f"{setting}, cast(current_user as text) as role, cast(session_user as text) as login"
    )


def _require_same(owner: str, tenant: str) -> None:
    if owner != tenant:
        raise TenantMismatch(
            f'this transaction belongs to tenant "{owner}", but the current scope is "{tenant}". '
            "Use another connection, inside the new scope."
        )


def _ended_by_sql(tenant: str) -> ScopeMissing:
    return ScopeMissing(
        f"SQL in this block ended the transaction of tenant {tenant}, so nothing after it had a "
        "tenant. Leave the block to commit, and raise psycopg.Rollback to roll back."
    )


async def _close(connection: RawConnection) -> None:
    if isinstance(connection, psycopg.AsyncConnection):
        await connection.close()
    else:
        connection.close()

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
from functools import lru_cache
from typing import Any, Final, TypeVar, overload
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.transaction import OutOfOrderTransactionNesting
from sqlalchemy import TextClause, text

from temporal_tenancy.core.directory import plan_of_this_activity, record_of_this_activity
from temporal_tenancy.core.errors import (
    ConfigurationError,
    ScopeMissing,
    StoreUnsupported,
    TenantMismatch,
)
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres import tenant_owned
from temporal_tenancy.postgres._blocks import AsyncBlock, SyncBlock
from temporal_tenancy.postgres._excess_rights import refuse_excess_rights
from temporal_tenancy.postgres._transaction_clock import COUNTED_SINCE
from temporal_tenancy.postgres.database import refuse_workflow_code
from temporal_tenancy.postgres.database_errors import (
    is_lost,
    refused_by_policy,
    timed_out,
    transaction_timeout,
    withhold_values,
)
from temporal_tenancy.postgres.installation import SCHEMA
from temporal_tenancy.postgres.open_transactions import (
    OpenTransaction,
    Stage,
    claimed,
    cut,
    ended_by_sql,
    found,
    joined,
    overlapping,
    require_running,
    require_same,
)
from temporal_tenancy.postgres.raw_session import RawConnection, RawSession, compiled, finish
from temporal_tenancy.postgres.session_limits import SessionLimits

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
        cast(extract(epoch from now()) as text) as began,
        pg_my_temp_schema() <> 0 as has_temporary,
        array(
            select name from pg_catalog.pg_cursors where name <> '' and creation_time >= now()
        ) as cursors,
        set_config('app.tenant_id', '', false)
"""
# A rollback undoes all of the block, except what SQL in it has committed.
_LEFT_AFTER_ROLLBACK: Final = """
    select
        coalesce(current_setting('app.tenant_id', true), '') as tenant,
        current_user::text as role,
        pg_my_temp_schema() <> 0 as has_temporary,
        exists (
            select from pg_catalog.pg_cursors
            where name <> '' and creation_time >= to_timestamp(cast(%(began)s as float8))
        ) as has_cursors
"""


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
        limits: the transaction's time limits; None: those of the tenant's plan, which an activity
            knows, and of `SessionLimits()` where it sets none. Ignored in a savepoint.
        schema: the one that the library's tables are in, for `enqueue_in()`.

    Raises:
        ScopeMissing: no tenant scope is open, this is workflow code, or the connection is in a
            transaction already; nothing was sent. At the end of the block: the scope has closed, or
            SQL in the block ended the transaction.
        TenantMismatch: the scope or the connection's transaction is another tenant's, or a row is.
        NotAwaited: a request or an event of the block was not awaited; it was rolled back.
        ExcessRights: row-level security does not apply to the connection's role.
        StoreUnsupported: the tenant's rows are in a store of its own.
        ConfigurationError: `connection` is not a psycopg 3 connection.
        LockHeld, StatementTimeout, IdleTransaction, TransactionTimeout: a limit was reached.
        psycopg.Error: any other database error, without values of rows once it leaves the block.
    """
    if isinstance(connection, psycopg.AsyncConnection):
        return AsyncBlock(_async_transaction(connection, limits, schema))
    if isinstance(connection, psycopg.Connection):
        return SyncBlock(_sync_transaction(connection, limits, schema))
    raise ConfigurationError(
        "tenant_transaction() takes a psycopg.Connection or psycopg.AsyncConnection, not "
        f"{type(connection).__name__}. Take a connection from the pool or adapter first."
    )


@contextmanager
def _sync_transaction(
    connection: psycopg.Connection[Any], limits: SessionLimits | None, schema: str
) -> Iterator[psycopg.Connection[Any]]:
    tenant = current_tenant_of_this_code()
    outer = joined(connection, tenant)
    with translated_errors(tenant, outer):
        if outer is not None:
            with connection.transaction(), outer.containing():
                yield connection
                require_tenant(tenant)
            return
        with claimed(connection, tenant, schema) as opened, translated_errors(tenant, opened):
            try:
                with connection.transaction():
                    finish(begin(connection, opened, limits))
                    with opened.running():
                        yield connection
                    finish(prepare_commit(connection, opened))
            finally:
                finish(clean_after_rollback(connection, opened))


@asynccontextmanager
async def _async_transaction(
    connection: psycopg.AsyncConnection[Any], limits: SessionLimits | None, schema: str
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    tenant = current_tenant_of_this_code()
    outer = joined(connection, tenant)
    with translated_errors(tenant, outer):
        if outer is not None:
            async with connection.transaction():
                with outer.containing():
                    yield connection
                    require_tenant(tenant)
            return
        with claimed(connection, tenant, schema) as opened, translated_errors(tenant, opened):
            try:
                async with connection.transaction():
                    await begin(connection, opened, limits)
                    with opened.running():
                        yield connection
                    await prepare_commit(connection, opened)
            finally:
                await clean_after_rollback(connection, opened)


def current_tenant_of_this_code() -> str:
    """Returns the current tenant, whose rows are in the shared tables.

    Raises:
        ScopeMissing: there is none, or this is workflow code.
        StoreUnsupported: its record says that its rows are in a store of its own.
    """
    refuse_workflow_code()
    tenant = current_tenant()
    record = record_of_this_activity()
    if record is not None and record.id == tenant and record.isolation is not Isolation.SHARED:
        raise StoreUnsupported(
            f'the rows of tenant {tenant} are in the store "{record.store}", a {record.isolation} '
            "of its own, and a connection of the application's own reaches the shared tables "
            "alone. Use tenant_session(), which finds the store."
        )
    return tenant


async def begin(
    connection: RawConnection, opened: OpenTransaction, limits: SessionLimits | None
) -> None:
    """Sets the tenant of the transaction that `connection` has just begun, until it ends.

    Raises:
        ExcessRights: row-level security does not apply to the connection's role.
    """
    session = RawSession(connection)
    if limits is None:
        plan = plan_of_this_activity(opened.tenant)
        limits = SessionLimits() if plan is None else SessionLimits().of_plan(plan)
    by_server = connection.info.server_version >= _COUNTED_SINCE
    opened.ends = time.monotonic() + limits.transaction.total_seconds()
    opened.is_counted_here = not by_server
    values = {"tenant": opened.tenant}
    [row] = await session.send(compiled(_first_statement(limits, by_server)), values)
    roles = (row.role, row.login)
    if _checked.get(connection) != roles:
        await refuse_excess_rights(session)
        _checked[connection] = roles
    opened.role, opened.began = row.role, row.began


async def prepare_commit(connection: RawConnection, opened: OpenTransaction) -> None:
    """Checks the transaction before its commit, and takes everything off it that would outlive it.

    Raises:
        ScopeMissing: the scope has closed, or SQL ended the transaction.
        TenantMismatch: the scope or the transaction is another tenant's, or SQL changed the role.
        NotAwaited: work of the block has not finished, or blocks inside it have overlapped.
        TransactionTimeout: it took too long, on a server that does not limit transactions.
    """
    tenant = opened.tenant
    require_tenant(tenant)
    opened.unfinished.require_none()
    if opened.inside or opened.is_mixed:
        raise overlapping()
    if opened.is_counted_here and time.monotonic() > opened.ends:
        raise transaction_timeout()
    if connection.info.transaction_status == TransactionStatus.IDLE:
        cut(connection)
        raise ended_by_sql(tenant)
    session = RawSession(connection)
    await session.command(_FIRE_DEFERRED)
    [left] = await session.send(_LEFT)
    if (left.tenant, left.role, left.began) != (tenant, opened.role, opened.began):
        # What it set may have been committed on the way.
        cut(connection)
        if left.began != opened.began:
            raise ended_by_sql(tenant)
        raise TenantMismatch(
            f'SQL in this block changed the tenant or role of a transaction of "{tenant}". It was '
            "rolled back, and the connection closed. Set and reset neither."
        )
    for cursor in left.cursors:
        await session.command(
            sql.SQL("close {}").format(sql.Identifier(cursor)).as_string(connection)
        )
    if left.has_temporary:
        await session.command("discard temp")
    opened.stage = Stage.COMMITTING


async def clean_after_rollback(connection: RawConnection, opened: OpenTransaction) -> None:
    """Takes off `connection` what SQL in a block committed before the block rolled back.

    It closes a connection that is still the tenant's, or cannot say. After a commit it does
    nothing.
    """
    if opened.stage is Stage.COMMITTING or not opened.began or connection.closed:
        return
    is_clean = False
    try:
        is_clean = await _clean(connection, opened)
    except psycopg.Error:
        pass  # the block's own error is the one to raise
    finally:
        if not is_clean:
            cut(connection)


async def _clean(connection: RawConnection, opened: OpenTransaction) -> bool:
    if connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    session = RawSession(connection)
    autocommit = connection.autocommit
    await _set_autocommit(connection, True)  # sends nothing, and saves BEGIN and COMMIT
    [left] = await session.send(_LEFT_AFTER_ROLLBACK, {"began": opened.began})
    if left.has_temporary:
        await session.command("discard temp")
    await _set_autocommit(connection, autocommit)
    return not left.tenant and left.role == opened.role and not left.has_cursors


async def _set_autocommit(connection: RawConnection, autocommit: bool) -> None:
    if isinstance(connection, psycopg.AsyncConnection):
        await connection.set_autocommit(autocommit)
    else:
        connection.set_autocommit(autocommit)


def bound_session(connection: RawConnection) -> RawSession:
    """Returns a session for the library's statements in the open transaction of `connection`.

    Raises:
        ScopeMissing: no transaction of a tenant is open on it, or SQL ended it, or no scope is
            open.
        TenantMismatch: the transaction belongs to another tenant than the scope.
    """
    tenant = current_tenant_of_this_code()
    opened = found(connection)
    if opened is None:
        raise ScopeMissing(
            "no transaction of a tenant is open on this connection. Call it inside: with "
            "tenant_transaction(connection)."
        )
    require_running(connection, opened, tenant)
    return RawSession(connection, opened.schema, opened.unfinished)


def require_tenant(tenant: str) -> None:
    """Raises unless the current scope is open, and `tenant`'s."""
    require_same(tenant, current_tenant())


@contextmanager
def translated_errors(tenant: str, opened: OpenTransaction | None = None) -> Iterator[None]:
    """Removes row values from the driver's errors; gives policy and limit errors own types."""
    try:
        yield
    except psycopg.Error as error:
        problem = translated(error, tenant, opened)
        if problem is None:
            raise
        raise problem from error


def translated(
    error: psycopg.Error, tenant: str, opened: OpenTransaction | None = None
) -> Exception | None:
    """Removes row values from `error`; returns the library's own error for it, if it has one.

    `opened` is the transaction in which it was raised.
    """
    if isinstance(error, OutOfOrderTransactionNesting):
        return overlapping()
    is_foreign, reason = refused_by_policy(error), error.diag.message_primary
    withhold_values(error)
    if is_foreign:
        return TenantMismatch(
            f"row-level security refused a row that does not belong to tenant {tenant}: {reason}. "
            "Write the current tenant's id."
        )
    if opened is not None and is_lost(error) and time.monotonic() >= opened.ends:
        return transaction_timeout()
    return timed_out(error)


@lru_cache
def _first_statement(limits: SessionLimits, by_server: bool) -> TextClause:
    setting = tenant_owned._set_tenant(limits, by_server).text
    return text(
        f"{setting}, cast(current_user as text) as role, cast(session_user as text) as login, "
        "cast(extract(epoch from now()) as text) as began"
    )

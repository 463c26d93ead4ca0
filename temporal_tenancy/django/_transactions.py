"""The tenant's transaction for Django's ORM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from django import conf  # not its settings, as in middleware
from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction

from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.django._tenantless import tenant_of_this_code
from temporal_tenancy.postgres.installation import SCHEMA
from temporal_tenancy.postgres.open_transactions import OpenTransaction, claimed, found, joined
from temporal_tenancy.postgres.raw_session import finish
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.transactions import (
    begin,
    clean_after_rollback,
    prepare_commit,
    require_tenant,
    translated,
    translated_errors,
)

SCHEMA_SETTING: Final = "TENANCY_SCHEMA"


@contextmanager
def tenant_atomic(
    using: str = DEFAULT_DB_ALIAS, *, limits: SessionLimits | None = None
) -> Iterator[None]:
    """Runs the block as `transaction.atomic(using)` does, in a transaction of the current tenant.

    A context manager and a decorator. It commits at the end of the block, and rolls back on an
    error or if the scope has closed or changed by then. Inside another `tenant_atomic()` it is a
    savepoint. The library's tables are in the schema that the setting `TENANCY_SCHEMA` names.

    Args:
        using: the alias of the database.
        limits: the transaction's time limits; None: those of the tenant's plan, if its record is
            known, and of `SessionLimits()` where it sets none. Ignored in a savepoint.

    Raises:
        ScopeMissing: no tenant scope is open, this is workflow code, or the connection is in an
            `atomic()` of the application (such as that of ATOMIC_REQUESTS) or not in autocommit
            mode; nothing was sent. At the end of the block: the scope has closed, or SQL in the
            block ended the transaction.
        TenantMismatch: the scope or the connection's transaction is another tenant's, or a row is.
        ExcessRights: row-level security does not apply to the connection's role.
        StoreUnsupported: the tenant's record says that its rows are in a store of its own.
        ConfigurationError: the database is not PostgreSQL through psycopg 3.
        LockHeld, StatementTimeout, IdleTransaction, TransactionTimeout: a limit was reached.
        django.db.Error: any other database error, without values of rows once it leaves the block.
    """
    tenant = tenant_of_this_code()
    connection = driver_connection(using)
    # The transaction in which django.test.TestCase runs a test counts as none.
    in_test = _is_in_test_case(using)
    outer = None if in_test else joined(connection, tenant)
    if outer is None:
        _refuse_open_transaction(using, tenant)
    with _translated_errors(tenant, outer):
        if outer is not None:
            with transaction.atomic(using), outer.containing():
                yield
                require_tenant(tenant)
            return
        schema = getattr(conf.settings, SCHEMA_SETTING, SCHEMA)
        with (
            claimed(connection, tenant, schema, is_inside=in_test) as opened,
            _translated_errors(tenant, opened),
        ):
            try:
                with transaction.atomic(using):
                    with connections[using].wrap_database_errors:
                        finish(begin(connection, opened, limits))
                    with opened.running():
                        yield
                    if not connections[using].needs_rollback:
                        with connections[using].wrap_database_errors:
                            finish(prepare_commit(connection, opened))
            finally:
                if not in_test:
                    finish(clean_after_rollback(connection, opened))
                    _forget_if_closed(using, connection)


def driver_connection(using: str) -> psycopg.Connection[Any]:
    """Returns the driver's connection of a database, which it opens if need be.

    Raises:
        ConfigurationError: the database is not PostgreSQL through psycopg 3.
    """
    connections[using].ensure_connection()
    driver = connections[using].connection
    if not isinstance(driver, psycopg.Connection):
        raise ConfigurationError(
            f'the database "{using}" is not PostgreSQL through psycopg 3. Use the engine '
            "django.db.backends.postgresql and install psycopg."
        )
    return driver


def connection_in_block(using: str) -> psycopg.Connection[Any]:
    """Returns the driver's connection of a database on which `tenant_atomic()` is open.

    Raises:
        ScopeMissing: it is not open, or there is no scope.
        ConfigurationError: the database is not PostgreSQL through psycopg 3.
    """
    tenant_of_this_code()
    connection = driver_connection(using)
    if found(connection) is None:
        argument = "" if using == DEFAULT_DB_ALIAS else repr(using)
        raise ScopeMissing(
            f'no transaction of a tenant is open on the database "{using}". Call it inside: with '
            f"tenant_atomic({argument})."
        )
    return connection


def _refuse_open_transaction(using: str, tenant: str) -> None:
    connection = connections[using]
    if _is_in_test_case(using):
        return
    if connection.in_atomic_block or not connection.get_autocommit():
        raise ScopeMissing(
            f'the database "{using}" is in a transaction that was not begun for tenant {tenant}. '
            "Open tenant_atomic() outside every atomic(), and without ATOMIC_REQUESTS for this "
            "view."
        )


def _forget_if_closed(using: str, connection: psycopg.Connection[Any]) -> None:
    wrapper = connections[using]
    if connection.closed and wrapper.connection is connection:
        wrapper.close()  # so that the next query opens another one


def _is_in_test_case(using: str) -> bool:
    blocks = connections[using].atomic_blocks
    return bool(blocks) and all(block._from_testcase for block in blocks)


@contextmanager
def _translated_errors(tenant: str, opened: OpenTransaction | None) -> Iterator[None]:
    try:
        with translated_errors(tenant, opened):
            yield
    except Error as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.Error):
            raise
        problem = translated(cause, tenant, opened)
        if problem is not None:
            raise problem from error
        error.args = (str(cause),)
        raise

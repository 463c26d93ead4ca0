"""The first message of a transaction in a store: it names the tenant, and reads whose the store is.

It is two statements after the BEGIN, all in one message of the simple protocol, so that it takes no
more round trips than a BEGIN alone. The second one runs as the role that the first one has entered,
which alone may use the schema. Nothing of the session's own is sent before the answer has been
compared, so a store of another tenant is neither read nor written. All of it is local to the
transaction.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core.errors import ConfigurationError, StoreMismatch
from temporal_tenancy.core.stores import Isolation, Store
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres._connection_guard import begin_with
from temporal_tenancy.postgres._guarded_connection import TenantConnection
from temporal_tenancy.postgres.installation import IDENTITY, PUBLIC, quoted
from temporal_tenancy.postgres.schema_in_use import library_schema

# SQLSTATEs of a store that has no schema, table or role, or whose role may not use them.
_NOT_SET_UP: Final = ("3F000", "42P01", "42501", "42703", "22023", "42704")


def require_complete(store: Store) -> None:
    """Raises `ConfigurationError` if `store` lacks what its isolation needs."""
    if store.isolation is Isolation.SCHEMA and not (store.schema and store.role):
        raise ConfigurationError(
            f'the store "{store.name}" is a schema, and its directory names no schema or no role. '
            "Name both: the role is what keeps SQL in the schema."
        )
    if store.isolation is Isolation.DATABASE and not store.url:
        raise ConfigurationError(
            f'the store "{store.name}" is a database, and its directory has no URL for it. Give '
            "it one."
        )


def enter_store(connection: Connection, store: Store, tenant: str, first: str) -> None:
    """Sends the first message of a tenant's transaction, and checks whose the store is.

    Args:
        connection: in a transaction that has sent nothing.
        store: the tenant's.
        tenant: the transaction's tenant.
        first: the statement that sets the tenant and the limits, with the value `:tenant`.

    Raises:
        StoreMismatch: the store is another one or another tenant's, or is not set up.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, TenantConnection)
    message = _message(store, tenant, first, library_schema(connection))
    try:
        with driver.last_result():
            rows = begin_with(connection, message).all()
    except DBAPIError as error:
        cause = error.orig
        if isinstance(cause, psycopg.Error) and cause.sqlstate in _NOT_SET_UP:
            raise StoreMismatch(
                f'the store "{store.name}" of tenant {tenant} is not set up: {cause}. Nothing of '
                "it was read or written. Provision the store, or correct its directory."
            ) from error
        raise
    _require_own([tuple(row) for row in rows], store, tenant)


def _require_own(rows: list[tuple[object, ...]], store: Store, tenant: str) -> None:
    owner = None if store.isolation is Isolation.SHARED else tenant
    if len(rows) != 1:
        raise StoreMismatch(
            f'the store "{store.name}" of tenant {tenant} has {number(len(rows), "row")} in '
            f"{IDENTITY}, and must have one. Nothing of it was read or written. Provision the "
            "store anew."
        )
    name, whose, role = rows[0]
    if (name, whose) != (store.name, owner):
        raise StoreMismatch(
            f'the session is for tenant "{tenant}" in the store "{store.name}", but what was '
            f'reached is the store "{name}" of {_told(whose)}. Nothing of it was read or written. '
            "Correct the place that the directory has for the store."
        )
    if store.role is not None and role != store.role:
        raise StoreMismatch(
            f'the session for tenant "{tenant}" has the role {role}, and not that of its store '
            f'"{store.name}". Nothing was read or written. Correct the role of the store.'
        )


def _told(owner: object) -> str:
    return "no tenant" if owner is None else f'tenant "{owner}"'


@lru_cache(4_096)
def _message(store: Store, tenant: str, first: str, library: str) -> str:
    schema = store.schema or PUBLIC
    statement = naming(tenant, first)
    if store.schema is not None:
        # Never `public`. The library's schema has the functions in the defaults of columns.
        parts = dict.fromkeys((schema, *((library,) if library != PUBLIC else ())))
        path = ", ".join([*map(quoted, parts), "pg_catalog"])
        statement += f", set_config('search_path', {_literal(path)}, true)"
    if store.role is not None:
        # The last one: the others may need the login's rights.
        statement += f", set_config('role', {_literal(store.role)}, true)"
    table = f"{quoted(schema)}.{IDENTITY}"
    asked = f"select store, tenant_id, current_user::text from {table}"  # noqa: S608
    return f"{statement}; {asked} limit 2"


@lru_cache(4_096)
def naming(tenant: str, first: str) -> str:
    """Returns the statement `first` with the tenant in the place of `:tenant`."""
    return first.replace(":tenant", _literal(tenant))


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)

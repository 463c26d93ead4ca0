"""Finds the schema that has the library's tables in a database, and makes engines use it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from temporal_tenancy.core.display import printable
from temporal_tenancy.postgres._connection_guard import rows_of
from temporal_tenancy.postgres.database_errors import InstallationElsewhere
from temporal_tenancy.postgres.installation import PUBLIC, SCHEMA

# The keys in the info of a pool's connection.
_SCHEMA: Final = "temporal_tenancy.schema"
_ELSEWHERE: Final = "temporal_tenancy.elsewhere"

# The version table is the first one that a migration creates. A view of that name is not it: the
# tables were moved, and the view is there for processes of an earlier release, or for those that
# name the schema from which they were moved. From the catalogue, since a role without USAGE on a
# schema gets an error from to_regclass().
HAS_TABLES: Final = """
    select nspname::text as schema, relkind::text as kind
    from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    join pg_catalog.pg_attribute as attribute on attribute.attrelid = class.oid
    where relname = 'control_plane_version' and relkind in ('r', 'v')
        and attname = 'version_num' and nspname !~ '^pg_'
"""
# SQLSTATEs of a statement that names a table in a schema that has none, or is closed to the role.
_NOT_THERE: Final = ("42P01", "3F000", "42501")

Places = Collection[tuple[str, str]]
"""The rows of `HAS_TABLES`: schemas that have the version table, and whether as a table or view."""


def schema_in_use(connection: psycopg.Connection[Any], schema: str, *, beside: bool = False) -> str:
    """Returns `public` if the library's tables are there and not in `schema`, else `schema`.

    Args:
        connection: any role's.
        schema: the one of the installation.
        beside: whether a database may have the tables in other schemas only.

    Raises:
        InstallationElsewhere: it has, and `beside` is not set.
    """
    found = connection.execute(HAS_TABLES.encode()).fetchall()
    if not beside:
        refuse_elsewhere(found, schema)
    return chosen(with_tables(found), schema)


def with_tables(found: Places) -> set[str]:
    """Returns the schemas of `found` that have the tables themselves."""
    return {schema for schema, kind in found if kind == "r"}


def chosen(found: set[str], schema: str) -> str:
    """Returns the schema to use of those with tables; `schema` where neither it nor `public` is."""
    return PUBLIC if PUBLIC in found and schema not in found else schema


def elsewhere(found: Places, schema: str) -> list[str]:
    """Returns the schemas that have the tables, if the one that would be used has none."""
    tables = with_tables(found)
    if schema in {name for name, _ in found} or PUBLIC in tables:
        return []
    return sorted(tables)


def refuse_elsewhere(found: Places, schema: str) -> None:
    """Raises `InstallationElsewhere` if the tables are only in schemas that nobody has named."""
    others = elsewhere(found, schema)
    if others:
        raise installation_elsewhere(others, schema)


def installation_elsewhere(others: Sequence[str], schema: str) -> InstallationElsewhere:
    """Returns the error for tables that are in the schemas `others`, and not in `schema`."""
    named = " and ".join(map(printable, others))
    return InstallationElsewhere(
        f"the library's tables are in the schema {named} of this database, and not in "
        f"{printable(schema)}. Name the schema that has them: Installation(schema=...), for a "
        "connection of your own tenant_transaction(schema=...), in Django TENANCY_SCHEMA. Or move "
        "them, with move()."
    )


def use_schema(engine: Engine, schema: str) -> None:
    """Makes statements on `engine` find the library's tables in `schema`, or in `public`.

    Each new connection looks where they are, so that a process continues when they are moved. The
    statements themselves name the schema: the search_path is neither read nor changed.
    """

    @event.listens_for(engine, "connect")
    def look(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        found = _places(connection)
        record.info[_SCHEMA] = chosen(with_tables(found), schema)
        record.info[_ELSEWHERE] = elsewhere(found, schema)

    @event.listens_for(engine, "engine_connect")
    def translate(connection: Connection) -> None:
        found = connection.info[_SCHEMA]
        if found != SCHEMA:
            connection.execution_options(schema_translate_map={SCHEMA: found})

    # Not when it connects: a process may use no table of the library's.
    @event.listens_for(engine, "handle_error")
    def say_where_they_are(context: ExceptionContext) -> BaseException | None:
        error = context.original_exception
        if (
            context.connection is None
            or not isinstance(error, psycopg.Error)
            or error.sqlstate not in _NOT_THERE
        ):
            return None
        others, used = context.connection.info[_ELSEWHERE], context.connection.info[_SCHEMA]
        if not others or used not in (error.diag.message_primary or ""):
            return None
        return installation_elsewhere(others, used)


def library_schema(connection: Connection) -> str:
    """Returns the schema in which statements on `connection` find the library's tables."""
    return str(connection.info[_SCHEMA])


def _places(connection: DBAPIConnection) -> Places:
    found = [(schema, kind) for schema, kind in rows_of(connection, HAS_TABLES)]
    connection.set_autocommit(False)
    return found

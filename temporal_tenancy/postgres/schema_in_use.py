"""Finds the schema that has the library's tables in a database, and makes engines use it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from temporal_tenancy.postgres._connection_guard import own_statements
from temporal_tenancy.postgres.installation import PUBLIC, SCHEMA

_SCHEMA: Final = "temporal_tenancy.schema"  # the key in the info of a pool's connection

# The version table is the first one that a migration creates. A view of that name is not it: the
# tables were moved, and the view is there for processes of an earlier release. From the catalogue,
# since a role without USAGE on a schema gets an error from to_regclass().
HAS_TABLES: Final = """
    select nspname::text as schema
    from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    join pg_catalog.pg_attribute as attribute on attribute.attrelid = class.oid
    where nspname in (%s, 'public') and relname = 'control_plane_version' and relkind = 'r'
        and attname = 'version_num'
"""


def schema_in_use(connection: psycopg.Connection[Any], schema: str) -> str:
    """Returns `public` if the library's tables are there and not in `schema`, else `schema`."""
    found = {name for (name,) in connection.execute(HAS_TABLES, [schema])}
    return chosen(found, schema)


def use_schema(engine: Engine, schema: str) -> None:
    """Makes statements on `engine` find the library's tables in `schema`, or in `public`.

    Each new connection looks where they are, so that a process continues when they are moved. The
    statements themselves name the schema: the search_path is neither read nor changed.
    """

    @event.listens_for(engine, "connect")
    def look(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[_SCHEMA] = _schema_of(connection, schema)

    @event.listens_for(engine, "engine_connect")
    def translate(connection: Connection) -> None:
        found = connection.info[_SCHEMA]
        if found != SCHEMA:
            connection.execution_options(schema_translate_map={SCHEMA: found})


def _schema_of(connection: DBAPIConnection, schema: str) -> str:
    # Through the adapter, which can await inside SQLAlchemy's greenlet. In autocommit, so that it
    # is one round trip.
    connection.set_autocommit(True)
    with own_statements(connection):
        cursor = connection.cursor()
        cursor.execute(HAS_TABLES, [schema])
        found = {name for (name,) in cursor.fetchall()}
        cursor.close()
    connection.set_autocommit(False)
    return chosen(found, schema)


def chosen(found: set[str], schema: str) -> str:
    """Returns the schema to use of those `found`; `schema` where none has the tables."""
    return PUBLIC if found == {PUBLIC} else schema

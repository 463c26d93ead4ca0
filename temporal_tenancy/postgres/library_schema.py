"""The schema of the library's tables: made, opened to the runtime roles, and named in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment

TABLES: Final = (
    *("admission", "alerts", "api_keys", "dead_letters", "declared_schemas", "in_flight"),
    *("ledger", "lock_fences", "locks", "metered_hours", "outbox_messages", "plans", "positions"),
    *("processed_events", "releases", "running_processes", "server_checks", "stores"),
    *("tenants", "ticks"),
)
"""The library's tables, without those of the migrations' versions."""


def make_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    """Creates `schema` if it is missing."""
    # Even with IF NOT EXISTS, CREATE SCHEMA needs the right to create one.
    query = "select from pg_namespace where nspname = %s"
    if connection.execute(query, [schema]).fetchone() is None:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))


def grant_schema(connection: psycopg.Connection[Any], schema: str, roles: Sequence[str]) -> None:
    """Lets `roles` use the objects in `schema` that they have rights on."""
    connection.execute(
        sql.SQL("grant usage on schema {} to {}").format(
            sql.Identifier(schema), sql.SQL(", ").join(map(sql.Identifier, roles))
        )
    )


def search_only(connection: psycopg.Connection[Any], schema: str) -> None:
    """Makes unqualified names on this connection mean the objects in `schema`."""
    connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))


@contextmanager
def searching(connection: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    """Makes unqualified names in the block mean the objects in `schema`; inside a transaction."""
    [(before,)] = connection.execute("select current_setting('search_path')").fetchall()
    connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(schema)))
    yield  # after an error, the transaction's end resets it
    connection.execute("select set_config('search_path', %s, true)", [before])


def version_table(environment: MigrationEnvironment, schema: str) -> sql.Identifier:
    """Returns the version table of an environment, with the library's tables in `schema`.

    An application's own version table is found by the search_path.
    """
    place = [schema] if environment in LIBRARY else []
    return sql.Identifier(*place, environment.version_table)

"""Databases that were given as stores: nobody keeps their owners' URLs, so each is migrated alone.

The control plane learns what they have from the platform's login, which the secret store has, or
from the call that migrates one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.installation import IDENTITY, PUBLIC, Installation
from temporal_tenancy.postgres.migrations import revisions_at
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.stores.errors import reason_at_store
from temporal_tenancy.stores.secrets import PLATFORM, ConnectionSecrets, secret_name

AT_ONCE: Final = 8  # databases that are asked at the same time

_IDENTITY: Final = "select to_regclass(%s) is not null"
_SET: Final = "update {} set versions = %s, versions_at = now() where name = %s"


async def versions_of_given(
    names: Sequence[str],
    application: Sequence[MigrationEnvironment],
    secrets: ConnectionSecrets | None,
    *,
    installation: Installation | None = None,
) -> dict[str, Mapping[str, str] | str]:
    """Returns the last migrations of each database store, by the environment's name.

    One that does not answer, or whose login cannot be read, has the reason instead, as text.

    Args:
        names: of the stores.
        application: the environments of the application's tenant-owned tables.
        secrets: has the connections; None: there are none.
        installation: as for `migrate()`.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str) -> Mapping[str, str] | str:
        if secrets is None:
            return "this process has no secret store"
        async with gate:
            try:
                url = await secrets.url(secret_name(name, PLATFORM))
                return await asyncio.to_thread(
                    revisions_at, url, (*LIBRARY, *application), installation=installation
                )
            except (DatabaseProblem, ConfigurationError, psycopg.Error) as error:
                return reason_at_store(error)

    return dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))


def record_versions(
    url: str, found: Mapping[str, Mapping[str, str]], *, installation: Installation | None = None
) -> int:
    """Writes to the control plane which migrations stores have; returns how many stores it knows.

    Args:
        url: of the control plane's database, as its owner or the platform.
        found: the last migrations of each store by the environment's name, by the store's name.
        installation: as for `migrate()`.

    Raises:
        DatabaseUnreachable: the server did not answer.
        InstallationElsewhere: the library's tables are in another schema.
    """
    with connect(url) as connection:
        schema = schema_in_use(connection, (installation or Installation()).schema)
        statement = sql.SQL(_SET).format(sql.Identifier(schema, "stores"))
        return sum(
            connection.execute(statement, [Jsonb(dict(versions)), name]).rowcount
            for name, versions in found.items()
        )


def store_of(connection: psycopg.Connection[Any]) -> str | None:
    """Returns the store that the connection's database is; None if it is none."""
    there = connection.execute(_IDENTITY, [f"{PUBLIC}.{IDENTITY}"]).fetchone()
    if there != (True,):
        return None
    table = sql.Identifier(PUBLIC, IDENTITY)
    row = connection.execute(sql.SQL("select store from {}").format(table)).fetchone()
    return None if row is None else str(row[0])

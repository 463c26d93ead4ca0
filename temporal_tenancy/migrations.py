"""Bringing a database to what the code needs, as its owner, and finding out whether it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.pool import NullPool

from temporal_tenancy.connections import connect
from temporal_tenancy.database import database_url
from temporal_tenancy.database_errors import MigrationsBehind
from temporal_tenancy.errors import ConfigurationError
from temporal_tenancy.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.roles import (
    PLATFORM_ROLE,
    RELAY_ROLE,
    TENANT_ROLE,
    ensure_role,
    grant_database,
    limit_roles,
    password_of,
)

# Any number will do, as long as nothing else in the database locks it: "tenancy" in ASCII.
_LOCK: Final = 0x74656E616E6379


@dataclass(frozen=True)
class Pending:
    """How far a database is behind one environment's migrations."""

    environment: MigrationEnvironment
    revision: str | None  # where the database is; None: none has run
    needed: str

    def __str__(self) -> str:
        at = self.revision or "its beginning"
        return f"the {self.environment.name} is at {at}, and the code needs {self.needed}"


def migrate(
    owner_url: str,
    *,
    tenant_url: str,
    platform_url: str,
    relay_url: str | None = None,
    application: Sequence[MigrationEnvironment] = (),
) -> None:
    """Makes the runtime roles and runs all migrations: the control plane's, then `application`'s.

    What is there already is left as it is. Two calls at once take turns.

    Args:
        owner_url: of the role that owns the database; it may make roles.
        tenant_url: of `tenancy_tenant`; gives that role its password.
        platform_url: of `tenancy_platform`; gives that role its password.
        relay_url: of `tenancy_relay`; gives that role its password. Without one it is made so
            that policies can name it, and cannot log in.
        application: the environments of the application's tenant-owned tables.

    Raises:
        ConfigurationError: a URL is of another role than it should be, or has no password.
        DatabaseUnreachable: the server does not answer the owner.
        ExcessRights: a runtime role is there and may do more than its part.
    """
    passwords = {
        TENANT_ROLE: password_of(tenant_url, TENANT_ROLE),
        PLATFORM_ROLE: password_of(platform_url, PLATFORM_ROLE),
        RELAY_ROLE: None if relay_url is None else password_of(relay_url, RELAY_ROLE),
    }
    with connect(owner_url) as owner:
        owner.execute("select pg_advisory_lock(%s)", [_LOCK])  # until the connection closes
        for role, password in passwords.items():
            ensure_role(owner, role, password)
        grant_database(owner, list(passwords))
        limit_roles(owner)
        for environment in (*LIBRARY, *application):
            _upgrade(owner_url, environment)
            owner.execute(
                sql.SQL("grant select on {} to {}").format(
                    sql.Identifier(environment.version_table),
                    sql.SQL(", ").join(map(sql.Identifier, passwords)),
                )
            )


def pending(url: str, environments: Sequence[MigrationEnvironment]) -> list[Pending]:
    """Says which `environments` the database at `url` is behind in; any runtime role may ask.

    A database that is ahead of the code, as during a release, is not behind.
    """
    with connect(url) as connection:
        found = (_pending(connection, environment) for environment in environments)
        return [behind for behind in found if behind is not None]


def refuse_pending(url: str, environments: Sequence[MigrationEnvironment]) -> None:
    """Raises `MigrationsBehind` where the database at `url` lacks migrations of the code's."""
    behind = pending(url, environments)
    if behind:
        raise MigrationsBehind(
            f"{'; '.join(map(str, behind))}. "
            'Run "starter.py migrate" with the owner\'s DATABASE_URL.'
        )


def run_migrations(metadata: MetaData) -> None:
    """What an environment's env.py consists of. `metadata` is what its models say."""
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            "these migrations run inside temporal_tenancy.migrations.migrate(), not by alembic's "
            "own command."
        )
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=context.config.get_main_option("version_table") or "",
        compare_server_default=True,
        include_name=lambda name, kind, parents: kind != "table" or name in metadata.tables,
    )
    with context.begin_transaction():
        context.run_migrations()


def alembic_config(environment: MigrationEnvironment, connection: Connection | None) -> Config:
    """Alembic's settings for `environment`, which need no file."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", environment.script_location)
    config.set_main_option("version_table", environment.version_table)
    return config


def _upgrade(owner_url: str, environment: MigrationEnvironment) -> None:
    engine = create_engine(database_url(owner_url), poolclass=NullPool, hide_parameters=True)
    with engine.connect() as connection:
        command.upgrade(alembic_config(environment, connection), "head")


def _pending(
    connection: psycopg.Connection[Any], environment: MigrationEnvironment
) -> Pending | None:
    scripts = ScriptDirectory.from_config(alembic_config(environment, None))
    needed = scripts.get_current_head() or ""
    row = None
    if connection.execute("select to_regclass(%s)", [environment.version_table]).fetchone() != (
        None,
    ):
        row = connection.execute(
            sql.SQL("select version_num from {}").format(sql.Identifier(environment.version_table))
        ).fetchone()
    revision = None if row is None else str(row[0])
    if revision == needed:
        return None
    if revision is not None and not _known(scripts, revision):
        return None
    return Pending(environment, revision, needed)


def _known(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False

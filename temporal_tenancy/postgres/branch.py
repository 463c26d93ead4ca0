"""The library's migrations in an application's own Alembic environment.

Either as a branch of its history: `version_locations` names `BRANCH` beside the application's own
folder. Or called by one of its revisions: `upgrade_library()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NoReturn

import psycopg
from alembic import op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres.installation import ATTRIBUTE, Installation
from temporal_tenancy.postgres.library_schema import make_schema, searching
from temporal_tenancy.postgres.migrations import (
    alembic_config,
    grant_version,
    passwords_of,
    prepare_roles,
    set_up_roles,
)
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden

BRANCH: Final = "temporal_tenancy:postgres/alembic_branch"
"""The folder of the branch, as Alembic's `version_locations` takes it."""

# The keys in Alembic's `Config.attributes`.
_PASSWORDS: Final = "tenancy_passwords"
_BESIDE: Final = "tenancy_beside"


def configure_branch(
    config: Config,
    *,
    tenant_url: str | None = None,
    platform_url: str | None = None,
    relay_url: str | None = None,
    installation: Installation | None = None,
    beside: bool = False,
) -> None:
    """Tells the library's migrations about the application; its env.py calls this.

    Args:
        config: `context.config` of the env.py.
        tenant_url: URL with the tenant role, as for `migrate()`. None: a role that is missing is
            created without login, and yours to give a password.
        platform_url: URL with the platform role; likewise.
        relay_url: URL with the relay role; likewise.
        installation: the schema and the names of the roles; None: those of `Installation()`.
        beside: create a second installation if another schema has one, as for `migrate()`.

    Raises:
        ConfigurationError: a URL has the wrong role, or is not a PostgreSQL URL.
    """
    tenant_url, platform_url, relay_url = map(hidden, (tenant_url, platform_url, relay_url))
    installation = installation or Installation()
    config.attributes[ATTRIBUTE] = installation
    config.attributes[_BESIDE] = beside
    config.attributes[_PASSWORDS] = passwords_of(
        installation.roles, tenant_url, platform_url, relay_url
    )


def upgrade_library(revisions: Mapping[str, str] | None = None) -> None:
    """Runs the library's migrations that the database lacks; call it in an Alembic revision.

    They are part of the revision's transaction. Roles are created, checked and given their rights
    as by `migrate()`. The revisions stand in tables of the library's own, so that workers, `doctor`
    and `migrate()` find them.

    Args:
        revisions: the last revision to run, by the environment's name; None: the newest of each.

    Raises:
        ConfigurationError: Alembic writes SQL text rather than running it, the connection is not
            psycopg's, or as `migrate()` raises it.
        ExcessRights: a runtime role exists and has more rights than it needs.
        InstallationElsewhere: the library's tables are in another schema.
    """
    context = op.get_context()
    if context.as_sql:
        raise ConfigurationError(
            "the library's migrations read the database, so they cannot be written as SQL. Run "
            "Alembic without --sql."
        )
    connection = op.get_bind()
    owner = _driver(connection)
    config = context.config
    attributes = config.attributes if config is not None else {}
    wanted = attributes.get(ATTRIBUTE) or Installation()
    # The library's versions name no schema, and ask the installation where they are.
    beside = bool(attributes.get(_BESIDE))
    there = replace(wanted, schema=schema_in_use(owner, wanted.schema, beside=beside))
    attributes[ATTRIBUTE] = there
    passwords = attributes.get(_PASSWORDS) or dict.fromkeys(there.roles)
    make_schema(owner, there.schema)
    prepare_roles(owner, there, passwords)
    for environment in LIBRARY:
        with searching(owner, there.schema):
            _upgrade(connection, environment, there.schema, (revisions or {}).get(environment.name))
        grant_version(owner, environment, there)
    set_up_roles(owner, there, passwords)


def refuse_downgrade() -> NoReturn:
    """Raises `ConfigurationError`, as the library's migrations only upgrade."""
    raise ConfigurationError(
        "the library's migrations only upgrade. Restore a backup, or leave its branch where it is."
    )


def _upgrade(
    connection: Connection, environment: MigrationEnvironment, schema: str, revision: str | None
) -> None:
    scripts = ScriptDirectory.from_config(alembic_config(environment, None))
    target = revision or scripts.get_current_head() or ""
    versions = MigrationContext.configure(
        connection,
        opts={"version_table": environment.version_table, "version_table_schema": schema},
    )
    current = versions.get_current_revision()
    # A database may be ahead of this revision, and of this release.
    missing = {script.revision: script for script in scripts.iterate_revisions(target, "base")}
    if current is not None:
        if current not in missing:
            return
        missing = {script.revision: script for script in scripts.iterate_revisions(target, current)}
    for script in reversed(missing.values()):
        script.module.upgrade()
    versions.stamp(scripts, target)


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise ConfigurationError(
            "the library's migrations need a synchronous connection of psycopg. In env.py, use "
            'create_engine("postgresql+psycopg://...").'
        )
    return driver

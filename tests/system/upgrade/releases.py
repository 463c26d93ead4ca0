"""A stored release: its revisions, the rows of its database, and its statements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from dev.devstack.postgres import DatabaseUrls
from saas.database.environment import TENANT_DATA
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.hardening import harden
from temporal_tenancy.postgres.installation import Roles
from temporal_tenancy.postgres.migrations import alembic_config
from temporal_tenancy.postgres.roles import (
    PLATFORM_ROLE,
    RELAY_ROLE,
    TENANT_ROLE,
    ensure_role,
    grant_database,
    password_of,
    set_password,
)
from tests.system.upgrade.recording import Recording, read

ENVIRONMENTS: Final = (*LIBRARY, TENANT_DATA)
FOLDER: Final = Path(__file__).parent / "releases"


@dataclass(frozen=True)
class Release:
    """A release, by the name of its folder."""

    name: str

    @property
    def folder(self) -> Path:
        """The release's folder."""
        return FOLDER / self.name

    @property
    def revisions(self) -> Mapping[str, str]:
        """The release's migration revisions, by environment."""
        return dict(json.loads((self.folder / "revisions.json").read_text()))

    @property
    def rows(self) -> str:
        """SQL that fills the release's database, for a superuser."""
        return (self.folder / "rows.sql").read_text()

    @property
    def dump(self) -> str | None:
        """SQL that makes its tables as they were, for their owner; None: its migrations do.

        It is pg_dump's, of a database that the release migrated itself.
        """
        file = self.folder / "dump.sql"
        return file.read_text() if file.exists() else None

    @property
    def transactions(self) -> list[dict[str, Any]]:
        """Its statements, as `Recording.document` has them, with parameters for the driver."""
        found = json.loads((self.folder / "statements.json").read_text())
        return [
            {
                "role": each["role"],
                "sent": [one | {"parameters": read(one["parameters"])} for one in each["sent"]],
            }
            for each in found
        ]

    def write_revisions(self, revisions: Mapping[str, str]) -> None:
        """Stores the migration revisions."""
        self._write("revisions.json", revisions)

    def write_transactions(self, recording: Recording) -> None:
        """Stores the statements."""
        self._write("statements.json", recording.document())

    def _write(self, name: str, document: Any) -> None:
        (self.folder / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def releases() -> list[Release]:
    """Returns all stored releases."""
    return [Release(each.name) for each in sorted(FOLDER.iterdir()) if each.is_dir()]


def heads() -> dict[str, str]:
    """Returns the newest migration revisions."""
    return {
        each.name: ScriptDirectory.from_config(alembic_config(each, None)).get_current_head() or ""
        for each in ENVIRONMENTS
    }


def build(urls: DatabaseUrls, release: Release) -> None:
    """Fills an empty database with a release's tables, which are in `public`, and rows."""
    roles = {TENANT_ROLE: urls.tenant, PLATFORM_ROLE: urls.platform, RELAY_ROLE: urls.relay}
    with connect(urls.owner) as owner:
        for role, url in roles.items():
            ensure_role(owner, role, password_of(url, role))
            set_password(owner, role, password_of(url, role))
        harden(owner, Roles())
        grant_database(owner, Roles())
        if release.dump is None:
            _migrate(owner, urls, release.revisions)
        else:
            owner.execute(release.dump.encode())
    with connect(urls.superuser) as superuser:
        superuser.execute(release.rows.encode())


def _migrate(
    owner: psycopg.Connection[Any], urls: DatabaseUrls, revisions: Mapping[str, str]
) -> None:
    engine = create_engine(database_url(urls.owner), poolclass=NullPool)
    for environment in ENVIRONMENTS:
        with engine.connect() as connection:
            config = alembic_config(environment, connection)
            command.upgrade(config, revisions[environment.name])
        owner.execute(
            sql.SQL("grant select on {} to {}").format(
                sql.Identifier(environment.version_table),
                sql.SQL(", ").join(map(sql.Identifier, Roles())),
            )
        )

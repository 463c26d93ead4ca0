"""The library's migrations in an application's own Alembic project, run by Alembic's command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final

import pytest
from alembic.script import ScriptDirectory

import temporal_tenancy
from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.lint.catalogue import lint
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.migrations import alembic_config, migrate, pending
from tests.fixtures.strangers import Stranger, named, strangers_database

ROOT: Final = Path(temporal_tenancy.__file__).parents[1]
INI: Final = """
[alembic]
script_location = %(here)s/migrations
path_separator = space
version_locations = %(here)s/migrations/versions{branch}
"""
BRANCH: Final = " temporal_tenancy:postgres/alembic_branch"
ENV: Final = """
import os

from alembic import context
from sqlalchemy import Column, MetaData, Table, Text, create_engine

from temporal_tenancy.postgres import Installation, Roles, configure_branch

metadata = MetaData()
Table("orders", metadata, Column("tenant_id", Text, primary_key=True),
      Column("id", Text, primary_key=True))

configure_branch(
    context.config,
    tenant_url=os.environ["TENANT_DATABASE_URL"],
    platform_url=os.environ["PLATFORM_DATABASE_URL"],
    installation=Installation(roles=Roles(*os.environ["ROLES"].split())),
)
options = dict(
    target_metadata=metadata,
    include_name=lambda name, kind, parents: kind != "table" or name in metadata.tables,
)
if context.is_offline_mode():
    context.configure(url=os.environ["DATABASE_URL"], **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
"""
ORDERS: Final = """
from alembic import op
from sqlalchemy import Column, Text

from temporal_tenancy import protect
from temporal_tenancy.postgres import upgrade_library

revision = "e1a5"
down_revision = None
depends_on = {depends_on!r}


def upgrade():
    {first}
    op.create_table("orders", Column("tenant_id", Text, primary_key=True),
                    Column("id", Text, primary_key=True))
    protect("orders")
    {last}


def downgrade():
    op.drop_table("orders")
"""


@dataclass(frozen=True)
class Project:
    """An application's folder."""

    folder: Path
    stranger: Stranger

    def write(self, *, branch: bool, last: str = "pass") -> None:
        """Writes the project: with the branch in its history, or called by its own revision."""
        (self.folder / "migrations/versions").mkdir(parents=True, exist_ok=True)
        (self.folder / "alembic.ini").write_text(INI.format(branch=BRANCH if branch else ""))
        (self.folder / "migrations/env.py").write_text(ENV)
        (self.folder / "migrations/versions/e1a5_orders.py").write_text(
            ORDERS.format(
                depends_on="tenancy_0001" if branch else None,
                first="pass" if branch else "upgrade_library()",
                last=last,
            )
        )

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs Alembic's command in the folder."""
        roles = named("alembic").roles
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.stranger.urls.owner,
            "TENANT_DATABASE_URL": self.stranger.url(roles.tenant),
            "PLATFORM_DATABASE_URL": self.stranger.url(roles.platform),
            "ROLES": " ".join(roles),
        }
        return subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture
def project(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Project]:
    """An empty folder, and a database beside another application."""
    with strangers_database(postgres) as stranger:
        yield Project(tmp_path, stranger)


@pytest.mark.parametrize("branch", [True, False], ids=["a branch", "called by a revision"])
def test_alembics_own_command_upgrades_the_library(project: Project, branch: bool) -> None:
    stranger, installation = project.stranger, named("alembic")
    project.write(branch=branch, last="raise RuntimeError('no space')")
    before = stranger.state()
    failed = project.alembic("upgrade", "heads")
    assert "no space" in failed.stderr
    assert stranger.state() == before
    project.write(branch=branch)
    done = project.alembic("upgrade", "heads")
    assert done.returncode == 0, done.stderr
    for role in (installation.roles.tenant, installation.roles.platform):
        assert pending(stranger.url(role), LIBRARY) == []
    with connect(stranger.urls.superuser) as superuser:
        found = lint(superuser, environments=LIBRARY, installation=installation)
        assert {finding.check for finding in found if not finding.open} == set()
        versions = superuser.execute("table alembic_version").fetchall()
        assert versions == [("e1a5",)]  # which includes what it depends on
        # No password was in the environment, and what exists only for policies cannot log in.
        login = "select rolcanlogin from pg_roles where rolname = 'relay_alembic'"
        assert superuser.execute(login).fetchone() == (False,)
    assert stranger.other_app_works()
    # The other way finds nothing to do.
    state = stranger.state()
    migrate(stranger.urls.owner, **(stranger.asks(installation) | {"relay_url": None}))
    assert state["relations"] == stranger.state()["relations"]
    if branch:
        assert "No new upgrade operations" in project.alembic("check").stdout
        assert "--sql" in project.alembic("upgrade", "--sql", "heads").stderr
        back = project.alembic("downgrade", "tenancy@base")
        assert "the library's migrations only upgrade" in back.stderr


def test_the_branch_ends_where_the_library_does() -> None:
    folder = ROOT / "temporal_tenancy/postgres/alembic_branch"
    newest = max(folder.glob("tenancy_*.py"), key=lambda path: path.name)
    spec = spec_from_file_location(newest.stem, newest)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {
        each.name: ScriptDirectory.from_config(alembic_config(each, None)).get_current_head()
        for each in LIBRARY
    } == module.REVISIONS
    assert re.fullmatch(r"tenancy_\d{4}", module.revision)

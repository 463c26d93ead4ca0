"""A preparation of stores on the test's own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.installation import Roles
from temporal_tenancy.postgres.store_roles import store_roles
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.secrets import FileConnectionSecrets
from tests.fixtures.tables.models import TABLES

Shop = Callable[..., MigrationEnvironment]  # takes the bodies of its migrations after the first


@pytest.fixture
def connection_secrets(tmp_path: Path) -> FileConnectionSecrets:
    return FileConnectionSecrets(tmp_path / "connections")


@pytest.fixture
def preparation(
    database_urls: DatabaseUrls, connection_secrets: FileConnectionSecrets
) -> Iterator[Preparation]:
    """Stores with the tests' tables; their roles, which the whole server has, go with the test."""
    yield Preparation(
        database_urls.owner,
        application=[TABLES],
        tenant_url=database_urls.tenant,
        platform_url=database_urls.platform,
        relay_url=database_urls.relay,
        secrets=connection_secrets,
    )
    with connect(database_urls.owner) as owner:
        for role in store_roles(owner, Roles()):
            owner.execute(f'drop schema if exists "{role}" cascade'.encode())
            owner.execute(f'drop role "{role}"'.encode())


@pytest.fixture
def owner(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with connect(database_urls.owner) as connection:
        yield connection


@pytest.fixture
def tenants_login(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """A connection with the tenants' login, past the library's guards."""
    with connect(database_urls.tenant) as connection:
        yield connection


@pytest.fixture
def other_database(postgres: EmbeddedPostgres) -> Iterator[DatabaseUrls]:
    """An empty database for a store."""
    yield postgres.create_database("a_store")
    postgres.drop_database("a_store")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """An application whose later migrations are what the test says; None: it has one alone."""
    # Of its own name: Python keeps the packages that it has imported.
    package = f"shop_{uuid4().hex}"
    folder = tmp_path / package
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "__init__.py").write_text('"""An application."""\n')
    (folder / "migrations" / "env.py").write_text(
        "from sqlalchemy import MetaData\n"
        "from temporal_tenancy.postgres import run_migrations\n"
        "run_migrations(MetaData())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    versions = folder / "migrations" / "versions"
    _write(versions, "0001", None, "op.execute('create table orders (tenant_id text)')")

    def with_more(*bodies: str | None) -> MigrationEnvironment:
        for number, body in enumerate(bodies, start=2):
            if body is not None:
                _write(versions, f"{number:04}", f"{number - 1:04}", body)
        return MigrationEnvironment("orders", f"{package}:migrations", "shop_version")

    return with_more


def _write(folder: Path, revision: str, down: str | None, body: str) -> None:
    (folder / f"{revision}_x.py").write_text(
        f"from alembic import op\nrevision = {revision!r}\ndown_revision = {down!r}\n"
        f"def upgrade() -> None:\n    {body}\n"
    )

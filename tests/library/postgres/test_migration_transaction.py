"""A migration that fails, at whatever statement, has changed nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres import migrations
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.hardening import openings
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import migrate, pending
from tests.fixtures.strangers import Stranger, named, strangers_database
from tests.fixtures.tables.models import TABLES

# Every statement of the beginning and the end, where roles and rights change, and some of the many
# that create tables.
EVERY: Final = 25


class Broken(Exception):
    """The connection is lost, the disk is full, ..."""


@pytest.fixture
def stranger(postgres: EmbeddedPostgres) -> Iterator[Stranger]:
    """A database that is open to every role, beside another application."""
    with strangers_database(postgres) as stranger:
        yield stranger


@contextmanager
def counting(fails_at: int | None = None) -> Iterator[list[str]]:
    """Collects the statements that this process sends; the one with that number fails."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def counted(self: psycopg.Cursor[Any], query: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(str(query))
        if len(sent) == fails_at:
            raise Broken
        return execute(self, query, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", counted)
        yield sent


def run(stranger: Stranger, installation: Installation) -> None:
    migrate(stranger.urls.owner, application=[TABLES], harden=True, **stranger.asks(installation))


def points(statements: int) -> list[int]:
    first, last = range(1, 12), range(statements - 20, statements + 1)
    return sorted({*first, *range(12, statements, EVERY), *last})


@pytest.mark.parametrize("existing", [False, True], ids=["new roles", "adopted roles"])
def test_a_migration_that_fails_at_any_statement_leaves_all_as_it_was(
    stranger: Stranger, existing: bool
) -> None:
    installation = named("gone")
    if existing:
        stranger.run(
            "alter default privileges for role tenancy_owner grant select on tables to other_app",
            *(f"create role {role} login password 'own'" for role in installation.roles),
        )
    before = stranger.state()
    # Counts the statements, without the commit that follows them.
    with counting() as sent, pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "_set_passwords", _fail)
        with pytest.raises(Broken):
            run(stranger, installation)
    assert stranger.state() == before
    assert any("create policy" in statement for statement in sent)
    for number in points(len(sent)) if not existing else points(len(sent))[::4]:
        with counting(number), pytest.raises(Broken):
            run(stranger, installation)
        assert stranger.state() == before, sent[number - 1]
    assert stranger.other_app_works()
    run(stranger, installation)
    assert pending(stranger.urls.owner, (*LIBRARY, TABLES)) == []
    with connect(stranger.urls.owner) as owner:
        assert openings(owner, installation.roles) == []


def _fail(*_: object) -> None:
    raise Broken


LEAVING: Final = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("create table if not exists before_it (n int)")
    with op.get_context().autocommit_block():
        op.execute("create index concurrently if not exists ix_before on before_it (n)")
    op.execute("create table after_it (n int)")
"""
ENVIRONMENT: Final = """
from sqlalchemy import MetaData

from temporal_tenancy.postgres import run_migrations

run_migrations(MetaData())
"""


@pytest.fixture
def leaving(tmp_path: Path) -> MigrationEnvironment:
    """An application whose migration leaves the transaction, to create an index."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENVIRONMENT)
    (tmp_path / "versions" / "0001_index.py").write_text(LEAVING)
    return MigrationEnvironment("leaving", str(tmp_path), "leaving_version")


def test_an_application_may_leave_the_transaction_and_what_follows_is_another(
    stranger: Stranger, leaving: MigrationEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"application": [leaving], **stranger.asks(named("left"))}
    with connect(stranger.urls.superuser) as superuser:
        monkeypatch.setattr(migrations, "grant_database", _fail)
        with pytest.raises(Broken):
            migrate(stranger.urls.owner, **asked)
        monkeypatch.undo()
        there = "select to_regclass('ix_before')::text, to_regclass('after_it')::text"
        assert superuser.execute(there).fetchone() == ("ix_before", None)
        assert [behind.environment for behind in pending(stranger.urls.owner, [leaving])] == [
            leaving
        ]
        migrate(stranger.urls.owner, **asked)
        assert superuser.execute(there).fetchone() == ("ix_before", "after_it")

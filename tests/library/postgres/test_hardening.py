"""What every role of the server may do: nobody loses it without a request, and lint tells of it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.lint.catalogue import lint
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.hardening import harden, openings
from temporal_tenancy.postgres.migrations import migrate
from tests.fixtures.strangers import OTHER_APP, OTHER_TABLES, Stranger, named, strangers_database


@pytest.fixture
def stranger(postgres: EmbeddedPostgres) -> Iterator[Stranger]:
    """A database that is open to every role, beside another application."""
    with strangers_database(postgres) as stranger:
        yield stranger


def test_another_application_goes_on_until_the_database_is_hardened(stranger: Stranger) -> None:
    installation = named("hard")
    stranger.run(f"grant select on {OTHER_TABLES[0]} to public")
    assert stranger.other_app_works()
    migrate(stranger.urls.owner, **stranger.asks(installation))
    assert stranger.other_app_works()
    with connect(stranger.urls.superuser) as superuser:
        found = lint(superuser, environments=LIBRARY, installation=installation)
    assert {finding.check for finding in found} == {"public-grant", "shared-table"}
    assert all(finding.open for finding in found)

    with connect(stranger.urls.owner) as owner:
        open_to_all = openings(owner, installation.roles)
    name = stranger.name
    assert [(each.right, each.revoke) for each in open_to_all] == [
        (
            f"CONNECT, TEMPORARY on the database {name}",
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        ),
        ("USAGE on the schema public", "REVOKE ALL ON SCHEMA public FROM PUBLIC"),
        (
            "EXECUTE on the functions that tenancy_owner will create",
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        ),
    ]
    assert [OTHER_APP in each.roles for each in open_to_all] == [True, True, False]
    assert not any(set(each.roles) & set(installation.roles) for each in open_to_all)

    migrate(stranger.urls.owner, harden=True, **stranger.asks(installation))
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        stranger.other_app_works()
    with connect(stranger.urls.owner) as owner:
        assert openings(owner, installation.roles) == []
    with connect(stranger.urls.superuser) as superuser:
        found = lint(superuser, environments=LIBRARY, installation=installation)
        assert {finding.object for finding in found} == {
            f"relation {OTHER_TABLES[0]}",
            OTHER_TABLES[0],
        }
    # It comes back by grants of its own, which migrating again leaves.
    stranger.run(
        f"grant connect, temporary on database {name} to {OTHER_APP}",
        f"grant usage on schema public to {OTHER_APP}",
    )
    migrate(stranger.urls.owner, harden=True, **stranger.asks(installation))
    assert stranger.other_app_works()


def test_who_may_not_take_it_away_is_told_by_which_statement_and_nothing_is_changed(
    stranger: Stranger,
) -> None:
    stranger.run(
        "create role boss login createrole password 'secret'",
        "grant create on schema public to boss",
        f"grant create, connect on database {stranger.name} to boss with grant option",
    )
    with (
        connect(stranger.url("boss")) as boss,
        pytest.raises(ConfigurationError, match="run REVOKE ALL ON DATABASE"),
        boss.transaction(),
    ):
        harden(boss, named("boss").roles)
    assert stranger.other_app_works()

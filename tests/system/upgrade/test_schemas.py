"""The library's tables in another schema: whatever the code sends finds them, and no others."""

from __future__ import annotations

import re
from typing import Final

import pytest
from psycopg import sql

from dev.devstack.postgres import DatabaseUrls
from saas.database.environment import TENANT_DATA
from temporal_tenancy.lint import catalogue
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.library_schema import TABLES
from temporal_tenancy.postgres.migrations import migrate, pending
from tests.fixtures.decoys import make_decoys
from tests.system.upgrade import scenario
from tests.system.upgrade.recording import Recording
from tests.system.upgrade.releases import ENVIRONMENTS, Release

ROWS: Final = Release("second").rows
UNQUALIFIED: Final = re.compile(
    rf"(?:from|join|into|update|table|using)\s+(?:{'|'.join(TABLES)})\b", re.IGNORECASE
)
SCHEMAS: Final = ["tenancy", 'My "own', "public"]


@pytest.fixture(params=SCHEMAS)
def installation(request: pytest.FixtureRequest) -> Installation:
    return Installation(request.param)


@pytest.fixture
def urls(empty_urls: DatabaseUrls, installation: Installation) -> DatabaseUrls:
    """A database with the library in that schema, and a stranger's tables of the same names."""
    if installation.schema != "public":
        make_decoys(empty_urls.owner)
    migrate(
        empty_urls.owner,
        tenant_url=empty_urls.tenant,
        platform_url=empty_urls.platform,
        relay_url=empty_urls.relay,
        application=[TENANT_DATA],
        installation=installation,
        harden=True,
    )
    with connect(empty_urls.superuser) as superuser:
        path = sql.SQL(", ").join([sql.Identifier(installation.schema), sql.Identifier("public")])
        superuser.execute(sql.SQL("set search_path to {}").format(path))
        superuser.execute(ROWS.encode())
    return empty_urls


async def test_every_statement_names_the_schema(
    urls: DatabaseUrls, installation: Installation
) -> None:
    recording = Recording()
    await scenario.run(urls, recording, installation)
    sent = [one.sql for transaction in recording.transactions for one in transaction.sent]
    assert len(sent) > 200
    schema = installation.schema
    quoted = schema if schema.isalpha() else '"' + schema.replace('"', '""') + '"'
    assert sum(f"{quoted}." in statement for statement in sent) > 100
    assert [statement for statement in sent if UNQUALIFIED.search(statement)] == []


def test_a_database_is_sound_wherever_the_tables_are(
    urls: DatabaseUrls, installation: Installation
) -> None:
    assert pending(urls.tenant, ENVIRONMENTS, installation=installation) == []
    with connect(urls.superuser) as superuser:
        assert catalogue.lint(superuser, environments=ENVIRONMENTS, installation=installation) == []

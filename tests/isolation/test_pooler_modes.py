"""What a session says where the pooler in front of the database is in the wrong mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from tests.fixtures.pgbouncer import running_pgbouncer
from tests.fixtures.postgres import within


async def test_a_pooler_in_statement_mode_is_told_with_what_to_change(
    postgres: EmbeddedPostgres, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    with running_pgbouncer(tmp_path, postgres, "statement") as pooler:
        database = Database(tenant_url=pooler.urls(database_urls).tenant)
        with within(database, "acme"), pytest.raises(DatabaseUnreachable) as caught:
            async with tenant_session() as session:
                await session.connection()
        await database.dispose()
    assert str(caught.value).endswith(
        "transaction blocks not allowed in statement pooling mode (SQLSTATE 08P01). "
        "Set pool_mode = transaction in the pooler's configuration."
    )

"""What sessions say and leave behind a pooler that is set up in one way or another."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from tests.fixtures.pgbouncer import running_pgbouncer
from tests.fixtures.postgres import send_unchecked, within

PATH = text("select current_setting('search_path')")


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


@pytest.mark.parametrize(
    ("resets", "on_the_way", "is_left"),
    [(True, False, False), (True, True, False), (False, False, False), (False, True, True)],
)
async def test_what_a_session_leaves_ends_with_its_commit_or_if_the_pooler_resets_connections(
    postgres: EmbeddedPostgres,
    database_urls: DatabaseUrls,
    tmp_path: Path,
    resets: bool,
    on_the_way: bool,
    is_left: bool,
) -> None:
    """The last commit resets its connection; after another one, the pooler's other one is reset."""
    with running_pgbouncer(tmp_path, postgres, resets=resets, connections=2) as pooler:
        database = Database(tenant_url=pooler.urls(database_urls).tenant)
        with within(database, "acme"):
            [usual] = await paths_of_both()
            async with tenant_session() as session:
                await send_unchecked(session, "set search_path to elsewhere")
                if on_the_way:
                    await session.commit()
            seen = await paths_of_both()
        await database.dispose()
    assert seen == ({usual, "elsewhere"} if is_left else {usual})


async def paths_of_both() -> set[str]:
    """Returns the search_path of each of the pooler's two connections."""
    async with tenant_session() as session, tenant_session() as other:
        return {(await each.execute(PATH)).scalar_one() for each in (session, other)}

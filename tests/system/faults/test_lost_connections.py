"""A connection lost at a bad moment gets its own error, and is replaced."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, text

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from tests.fixtures.postgres import within

GONE_WITHIN = 10_000  # milliseconds


async def tenant_of_session() -> str:
    async with tenant_session() as session:
        found = await session.execute(text("select current_setting('app.tenant_id')"))
        return str(found.scalar_one())


async def test_a_connection_lost_before_it_knows_its_tenant_is_unreachable_and_replaced(
    database: Database, database_urls: DatabaseUrls
) -> None:
    pool = database.tenant_engine.sync_engine.pool

    def lose(connection: Any, record: object, proxy: object) -> None:  # the driver's, adapted
        # After the pool's own check that it is alive.
        with connect(database_urls.superuser) as superuser:
            pid = connection.driver_connection.info.backend_pid
            superuser.execute("select pg_terminate_backend(%s, %s)", [pid, GONE_WITHIN])

    with within(database, "acme"):
        assert await tenant_of_session() == "acme"
        event.listen(pool, "checkout", lose, once=True)
        with pytest.raises(DatabaseUnreachable, match="does not answer tenancy_tenant"):
            await tenant_of_session()
        assert await tenant_of_session() == "acme"

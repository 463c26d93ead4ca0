"""Sessions of tenants whose stores the control plane has given out, in all three isolations."""

from __future__ import annotations

from datetime import date

from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.outbox import enqueue, once
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.stores._directory import ControlPlaneStores
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.secrets import FileConnectionSecrets
from temporal_tenancy.stores.sign_up import SignUp
from tests.fixtures.postgres import within
from tests.fixtures.tables.models import DailyUsage

DAY = date(2013, 4, 1)


async def test_the_same_code_runs_for_a_tenant_of_each_isolation(
    preparation: Preparation,
    connection_secrets: FileConnectionSecrets,
    database: Database,
    database_urls: DatabaseUrls,
    other_database: DatabaseUrls,
) -> None:
    preparation.prepare(Isolation.SCHEMA)
    preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    sign_up = SignUp(database, connection_secrets)
    for isolation in Isolation:
        await sign_up.add(f"in-{isolation}", "a tenant", plan="free", isolation=isolation)
    tenants = Database(
        tenant_url=database_urls.tenant,
        max_connections=3,
        stores=ControlPlaneStores(database, connection_secrets),
    )
    for isolation in Isolation:
        with within(tenants, f"in-{isolation}"):
            async with tenant_session() as session:
                session.add(DailyUsage(day=DAY, events=1, cancelled=0, distance=0, air_time=0))
                await enqueue("test.note", {})
                assert await once(session, "mail.send", "event-1")
    for isolation in Isolation:
        with within(tenants, f"in-{isolation}"):
            async with tenant_session() as session:
                rows = await session.scalars(text("select tenant_id from daily_usage"))
                assert list(rows) == [f"in-{isolation}"]
    await tenants.dispose()

"""Sample tenants in a database: all of their own flights, and only those."""

from __future__ import annotations

from sqlalchemy import func, select

from dev.sample_data.load import load_airlines, make_up_tenants
from saas.database.tables import UsageEvent
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within


async def test_the_airlines_are_loaded_whole_and_once(database: Database) -> None:
    added = await load_airlines(database)
    assert (len(added), sum(added.values()), added["ua"]) == (16, 336_776, 58_665)
    again = await load_airlines(database)
    assert sum(again.values()) == 0
    with within(database, "oo"):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(UsageEvent)) == 32


async def test_made_up_tenants_are_added_once(database: Database) -> None:
    ids = await make_up_tenants(database, 30, events=2)
    assert await make_up_tenants(database, 30, events=2) == ids
    page = await ControlPlaneDirectory(database).page(limit=100)
    assert [tenant.id for tenant in page] == ids
    assert {tenant.plan.id for tenant in page} == {"free", "standard", "enterprise"}
    with within(database, ids[-1]):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(UsageEvent)) == 2

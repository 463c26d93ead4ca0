"""What a tenant's plan says of its sessions: their share of the connections, and their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.directory import Plan, use_tenant_record
from temporal_tenancy.postgres._engines import shares_of
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import PoolShareInUse, StatementTimeout
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.transactions import tenant_transaction
from temporal_tenancy.testing import make_tenant
from tests.fixtures.postgres import within
from tests.fixtures.stores import Fleet

SMALL = Plan(
    id="small",
    pool_share=0.2,
    statement_timeout=timedelta(milliseconds=50),
    idle_timeout=timedelta(seconds=3),
)
SHOWN = text("""
    select current_setting('statement_timeout'), current_setting('lock_timeout'),
        current_setting('idle_in_transaction_session_timeout')
""")


@contextmanager
def working(database: Database, tenant: str, plan: Plan) -> Iterator[None]:
    """Runs the block as an activity of a tenant on `plan` does."""
    with within(database, tenant), use_tenant_record(make_tenant(tenant, plan=plan)):
        yield


async def limits_of(limits: SessionLimits | None = None) -> list[str]:
    async with tenant_session(limits=limits) as session:
        return list((await session.execute(SHOWN)).one())


async def test_a_plans_limits_are_those_of_its_tenants_sessions_in_each_store(fleet: Fleet) -> None:
    with (
        within(fleet.database, fleet.tenant),
        use_tenant_record(make_tenant(fleet.tenant, plan=SMALL, isolation=fleet.isolation)),
    ):
        assert await limits_of() == ["50ms", "5s", "3s"]
        # What slow work asks for goes before it.
        assert await limits_of(SessionLimits()) == ["30s", "5s", "30s"]
        async with tenant_session() as session:
            with pytest.raises(StatementTimeout):
                await session.execute(text("select pg_sleep(10)"))
    with within(fleet.database, fleet.other):  # without a record
        assert await limits_of() == ["30s", "5s", "30s"]


async def test_another_tenants_plan_limits_nothing(database: Database) -> None:
    with within(database, "ua"), use_tenant_record(make_tenant("dl", plan=SMALL)):
        assert await limits_of() == ["30s", "5s", "30s"]


def test_a_connection_of_ones_own_has_the_plans_limits(
    database: Database, database_urls: DatabaseUrls
) -> None:
    with (
        connect(database_urls.tenant) as connection,
        working(database, "ua", SMALL),
        tenant_transaction(connection),
    ):
        assert connection.execute("show statement_timeout").fetchone() == ("50ms",)


async def test_a_tenant_holds_the_part_of_the_pool_that_its_plan_says(
    database_urls: DatabaseUrls,
) -> None:
    database = Database(tenant_url=database_urls.tenant, tenant_pool=PoolShare(10, patience=0.05))
    go_on = asyncio.Event()

    async def hold(tenant: str, plan: Plan) -> None:
        with working(database, tenant, plan):
            async with tenant_session() as session:
                await session.execute(text("select 1"))
                await go_on.wait()

    small = [asyncio.create_task(hold("ua", SMALL)) for _ in range(3)]
    large = [asyncio.create_task(hold("dl", Plan(id="large"))) for _ in range(5)]
    async with asyncio.timeout(60):
        done, _ = await asyncio.wait(small, return_when=asyncio.FIRST_COMPLETED)
        [refused] = done
        with pytest.raises(PoolShareInUse, match="holds 2 connections, of the 2 it may use of"):
            await refused
        while shares_of(database.tenant_engine).held != {"tenant ua": 2, "tenant dl": 5}:  # noqa: ASYNC110  # a pool has no event for it
            await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(*(task for task in (*small, *large) if task is not refused))
    await database.dispose()


@pytest.mark.parametrize(
    "given",
    [
        {"pool_share": 0},
        {"pool_share": 1.1},
        {"statement_timeout": timedelta(0)},
        {"idle_timeout": timedelta(days=25)},
    ],
)
def test_a_plan_that_no_session_could_have_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate({"id": "p", **given})

"""Many tenants over few connections: each gets the database's answers for itself."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.scope import TenantScope, current_scope, enter
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.database_errors import PoolShareExceeded
from tests.conformance import Mode
from tests.fixtures.modes import STORES
from tests.fixtures.postgres import within

TRANSACTIONS = 10_000
IN_OTHER_MODES = 500  # transactions: in each, a session enters and leaves the same state
TENANTS = [f"t{number:02}" for number in range(50)]
CONNECTIONS = 5
LEFT_BEHIND = "database.connection_discarded"
TASKS = 20

# The tenant that the database sees, whose rows it shows, and how many: each tenant has a different
# number of rows.
WHO = text("""
    select current_setting('app.tenant_id'), min(tenant_id), max(tenant_id), count(*)
    from daily_usage
""")
SEED = text("""
    insert into daily_usage
    select current_setting('app.tenant_id'), date '2013-01-01' + day, 1, 0, 0, 0
    from generate_series(0, :last) as day
""")
ENDINGS = {
    "commit": 60,
    "hoard": 10,
    "rollback": 12,
    "error": 12,
    "cancel": 3,
    "cancelled query": 3,
}


class Gone(Exception):
    """The error of a block that fails."""


async def hoard() -> None:
    """Opens sessions inside the open one until the tenant's share is used up."""
    async with tenant_session() as session:
        with suppress(PoolShareExceeded):
            await session.execute(WHO)
            await hoard()


async def end(session: AsyncSession, ending: str) -> None:
    """Ends a block's transaction, or its task, in the given way."""
    if ending == "hoard":
        await hoard()
    if ending == "rollback":
        raise Gone
    if ending == "error":
        await session.execute(text("select 1 / 0"))
    if ending == "cancel":
        raise asyncio.CancelledError
    if ending == "cancelled query":
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        await session.execute(text("select pg_sleep(60)"))


async def transaction(tenant: str, ending: str) -> tuple[object, ...]:
    seen: tuple[object, ...] = ()
    with enter(TenantScope(tenant)):
        try:
            async with tenant_session() as session:
                seen = tuple((await session.execute(WHO)).one())
                await end(session, ending)
        except (Gone, DBAPIError):
            pass
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
    return seen


def kept_on_connections(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Returns what sessions have left on connections, but for transactions that were cut off."""
    discarded = [each for each in caplog.records if each.message == LEFT_BEHIND]
    return {what for each in discarded for what in vars(each)["left_behind"]} - {"transaction"}


async def test_ten_thousand_interleaved_transactions_are_each_answered_as_their_tenant(
    database: Database, database_urls: DatabaseUrls, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    # Some have stores of the mode, and their connections go on to those in the shared tables.
    tenants = TENANTS if mode is Mode.SHARED else TENANTS[: 2 * STORES]
    transactions = TRANSACTIONS if mode is Mode.SHARED else IN_OTHER_MODES
    for last, tenant in enumerate(tenants):
        with within(database, tenant):
            async with tenant_session() as session:
                await session.execute(SEED, {"last": last})
    chance = random.Random(2013)
    plan = [
        (chance.choice(tenants), ending)
        for ending in chance.choices(list(ENDINGS), list(ENDINGS.values()), k=transactions)
    ]
    remaining = iter(plan)
    mismatches: list[object] = []
    ended: Counter[str] = Counter()

    async def work() -> None:
        for tenant, ending in remaining:
            seen = await transaction(tenant, ending)
            if seen != (tenant, tenant, tenant, TENANTS.index(tenant) + 1):
                mismatches.append((tenant, ending, seen))
            ended[ending] += 1

    with use_database(database):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(TASKS):
                tasks.create_task(work())
    assert ended.total() == transactions
    assert mismatches == []
    assert kept_on_connections(caplog) == set()
    assert current_scope() is None
    with connect(database_urls.superuser) as superuser:
        # The server may not have noticed yet that a cancelled query was abandoned.
        used = superuser.execute(
            "select count(*) from pg_stat_activity where datname = %s and usename = %s"
            " and query not like '%%pg_sleep%%'",
            [superuser.info.dbname, "tenancy_tenant"],
        ).fetchone()
    assert used is not None
    assert used[0] <= CONNECTIONS

"""Plans in the control plane: what they say reaches their tenants' records."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from temporal_tenancy.control_plane import ControlPlaneDirectory, PlanRefused, Plans, PlanUnknown
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.postgres.database import Database
from tests.fixtures.postgres import within

SECOND = timedelta(seconds=1)


async def test_a_change_reaches_the_records_of_the_plans_tenants(database: Database) -> None:
    plans = Plans(database)
    await Tenants(database).add("acme", "Acme", plan="free")
    before = {plan.id: plan for plan in await plans.list()}
    changed = await plans.change(
        "free", pool_share=0.2, statement_timeout=SECOND, transaction_timeout=7 * SECOND
    )
    acme = await ControlPlaneDirectory(database).find("acme")
    assert acme is not None
    assert acme.plan == changed
    assert changed == before["free"].model_copy(
        update={
            "pool_share": 0.2,
            "statement_timeout": SECOND,
            "transaction_timeout": 7 * SECOND,
        }
    )
    # The others, and what is not named, stay as they are; None takes a limit away.
    again = await plans.change("free", statement_timeout=None, lock_timeout=SECOND / 1_000)
    assert (again.statement_timeout, again.pool_share) == (None, 0.2)
    assert {plan.id: plan for plan in await plans.list()} == {**before, "free": again}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pool_share": 1.5}, "pool_share: it must be 1 or less"),
        ({"pool_share": float("nan")}, "pool_share"),
        ({"statement_timeout": timedelta(0)}, "statement_timeout"),
        ({"idle_timeout": timedelta(days=25)}, "idle_timeout"),
        ({"fairness_weight": 0}, "fairness_weight: it must be 0.001 or more"),
        ({"concurrency_cap": 0}, "concurrency_cap: it must be 1 or more"),
    ],
)
async def test_what_does_not_fit_is_refused_and_nothing_changes(
    database: Database, changes: dict[str, Any], problem: str
) -> None:
    plans = Plans(database)
    before = await plans.list()
    with pytest.raises(PlanRefused, match=problem):
        await plans.change("free", **changes)
    assert await plans.list() == before


async def test_a_plan_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(PlanUnknown, match=r'"fre".* Did you mean "free"'):
        await Plans(database).change("fre", pool_share=0.5)


async def test_a_tenants_code_changes_no_plan(database: Database) -> None:
    with within(database, "acme"), pytest.raises(ScopeMissing):
        await Plans(database).change("free", pool_share=0.5)


@pytest.mark.parametrize(
    "values",
    [
        "pool_share = 0",
        "pool_share = 'NaN'",
        "statement_timeout = '0'",
        "lock_timeout = '25 days'",
        "idle_timeout = '-1 s'",
    ],
)
async def test_the_database_refuses_a_row_that_no_directory_could_read(
    database: Database, values: str
) -> None:
    with pytest.raises(IntegrityError):
        async with database.platform_session("test") as session:
            await session.execute(text(f"update tenancy.plans set {values}"))

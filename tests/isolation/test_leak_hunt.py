"""A leak hunt: random statements of several tenants against a model that keeps them apart.

After each statement, its result must be what the model says about the tenant's own rows, and the
tables as a superuser sees them must equal the model: no other tenant's row has changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.row_security import CURRENT_TENANT
from temporal_tenancy.stores.secrets import FileConnectionSecrets
from tests.conformance import Mode
from tests.fixtures.modes import TestStores
from tests.fixtures.pgbouncer import PgBouncer
from tests.isolation.leak_hunt.actions import ACTIONS
from tests.isolation.leak_hunt.machine import TABLES, Hunt, Place
from tests.isolation.leak_hunt.model import DAYS, FIRST_DAY, TENANTS, Model, Rows, Step

MOST_EVENTS = 5

steps = st.lists(
    st.builds(
        Step,
        tenant=st.sampled_from(TENANTS),
        other=st.sampled_from(TENANTS),
        action=st.sampled_from(sorted(ACTIONS)),
        day=st.integers(0, DAYS - 1).map(lambda days: FIRST_DAY + timedelta(days)),
        events=st.integers(0, MOST_EVENTS),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def hunting_ground(
    postgres: EmbeddedPostgres, mode: Mode, request: pytest.FixtureRequest
) -> Iterator[DatabaseUrls]:
    template = "schema_template" if mode is Mode.SCHEMA else "migrated_template"
    yield postgres.create_database("hunt", template=request.getfixturevalue(template))
    postgres.drop_database("hunt")


@pytest.fixture(scope="module")
async def hunt(
    hunting_ground: DatabaseUrls,
    postgres: EmbeddedPostgres,
    mode: Mode,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Hunt]:
    """Tenants of the mode on one connection, and their places; one has the shared tables."""
    runtime, stores = hunting_ground, None
    if mode is Mode.PGBOUNCER:
        pooler: PgBouncer = request.getfixturevalue("pgbouncer")
        runtime = pooler.urls(hunting_ground)
    if mode.isolation is not Isolation.SHARED:
        in_database = mode.isolation is Isolation.DATABASE
        stores = TestStores(
            mode.isolation,
            postgres,
            hunting_ground,
            request.getfixturevalue("database_template") if in_database else "",
            FileConnectionSecrets(tmp_path_factory.mktemp("hunt") / "connections"),
            left=len(TENANTS) - 1,
        )
    database = Database(
        tenant_url=runtime.tenant,
        platform_url=runtime.platform,
        tenant_pool_size=1,
        stores=None if stores is None else stores.of,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.dispose)
        here = await place_of(hunting_ground, "public", stack)
        places = dict.fromkeys(TENANTS, here)
        for tenant in TENANTS:
            if (
                stores is not None
                and (await stores.store_of(tenant)).isolation is not Isolation.SHARED
            ):
                places[tenant] = await place_of(*stores.where(tenant), stack)
        yield Hunt(database, places)
    if stores is not None:
        stores.drop()


async def place_of(urls: DatabaseUrls, schema: str, stack: AsyncExitStack) -> Place:
    # Past a pooler, which takes no prepared plans from one transaction to the next.
    preparing = await psycopg.AsyncConnection.connect(
        urls.tenant.replace("+psycopg", ""), autocommit=True, prepare_threshold=0
    )
    stack.push_async_callback(preparing.close)
    return Place(stack.enter_context(connect(urls.superuser)), preparing, schema)


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=steps)
async def test_no_statement_reads_or_moves_another_tenants_row(
    hunt: Hunt, plan: list[Step]
) -> None:
    await hunt.run(plan)


def stocked() -> Model:
    """Two tenants whose rows share some keys, and a third without rows."""
    day = [FIRST_DAY + timedelta(days) for days in range(DAYS)]
    return {
        "aa": Rows({day[0]: 3, day[1]: 2, day[2]: 2}, {(day[0], 1), (day[2], 2), (day[3], 3)}),
        "AA": Rows({day[0]: 4, day[1]: 2, day[3]: 1}, {(day[0], 2), (day[1], 1), (day[3], 3)}),
    }


def every_step(action: str, counts: Sequence[int] = (1, 2, 4)) -> Iterator[Step]:
    """An action of one tenant that has rows beside another's, on every day."""
    for days in range(DAYS):
        for events in counts:
            yield Step("aa", "AA", action, FIRST_DAY + timedelta(days), events)


@pytest.mark.parametrize("action", sorted(ACTIONS))
async def test_an_action_beside_another_tenants_rows_does_as_modelled(
    hunt: Hunt, action: str, mode: Mode
) -> None:
    for step in every_step(action, (1, 2, 4) if mode is Mode.SHARED else (2,)):
        await hunt.run([step], stocked())


@contextmanager
def weakened(superuser: psycopg.Connection[Any], how: str, back: str) -> Iterator[None]:
    superuser.execute(how)
    try:
        yield
    finally:
        superuser.execute(back)


def on_each_table(statement: str) -> str:
    return ";".join(statement.format(table=table) for table in TABLES)


def policies(rule: str) -> str:
    return on_each_table(
        ";".join(
            f"alter policy {policy} on {{table}} using ({rule}) with check ({rule})"
            for policy in ("tenant_isolation", "tenant_access")
        )
    )


WEAKNESSES = {
    "disabled": (
        on_each_table("alter table {table} disable row level security"),
        on_each_table("alter table {table} enable row level security"),
    ),
    "bypassed": (
        "alter role tenancy_tenant bypassrls",
        "alter role tenancy_tenant nobypassrls",
    ),
    "widened": (policies("true"), policies(f"tenant_id = {CURRENT_TENANT}")),
}


@pytest.mark.parametrize(("how", "back"), WEAKNESSES.values(), ids=WEAKNESSES)
async def test_each_action_finds_a_wall_that_is_down_unless_another_is_before_it(
    hunt: Hunt, how: str, back: str
) -> None:
    finders = set()
    with weakened(hunt.places["aa"].superuser, how, back):
        for action in ACTIONS:
            try:
                for step in every_step(action):
                    await hunt.run([step], stocked())
            except AssertionError:
                finders.add(action)
    assert finders == {name for name, action in ACTIONS.items() if action.meets_others}

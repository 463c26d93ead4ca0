"""A leak hunt: random statements of several tenants against a model that keeps them apart.

After each statement its result is what the model says of the tenant's own rows, and the table as
a superuser sees it is the model's: no other tenant's row has moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import DailyUsage
from devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.connections import connect
from temporal_tenancy.database import Database, tenant_session
from temporal_tenancy.errors import TenantMismatch
from tests.fixtures.postgres import within

TENANTS = ("aa", "bb", "cc")
FIRST_DAY = date(2013, 1, 1)
DAYS = 4

Rows = dict[date, int]  # a tenant's table: events by day
Model = dict[str, Rows]


@dataclass(frozen=True)
class Step:
    """One statement, sent for `tenant`; `other` is a tenant that it has no business with."""

    tenant: str
    other: str
    action: str
    day: date
    events: int

    @property
    def values(self) -> dict[str, Any]:
        return {
            "day": self.day,
            "events": self.events,
            "cancelled": 0,
            "distance": 0,
            "air_time": 0,
        }

    @property
    def foreign(self) -> dict[str, Any]:
        return self.values | {"tenant_id": self.other}


steps = st.lists(
    st.builds(
        Step,
        tenant=st.sampled_from(TENANTS),
        other=st.sampled_from(TENANTS),
        action=st.deferred(lambda: st.sampled_from(sorted(ACTIONS))),
        day=st.integers(0, DAYS - 1).map(lambda days: FIRST_DAY + timedelta(days)),
        events=st.integers(0, 5),
    ),
    min_size=1,
    max_size=25,
)

Action = Callable[[AsyncSession, Step], Awaitable[object]]
Expectation = Callable[[Rows, Step], object]  # changes the rows as the action should
ACTIONS: dict[str, tuple[Action, Expectation]] = {}


class Refused:
    """What an action says when the database or the library refused it."""

    def __repr__(self) -> str:
        return "refused"


REFUSED = Refused()


def action(expectation: Expectation) -> Callable[[Action], Action]:
    def register(function: Action) -> Action:
        ACTIONS[function.__name__] = (function, expectation)
        return function

    return register


def sql(statement: str, expectation: Expectation, *, name: str) -> None:
    """Registers SQL that neither names the tenant nor goes through the ORM."""

    async def send(session: AsyncSession, step: Step) -> object:
        connection = await session.connection()
        result = await connection.execute(text(statement), {"other": step.other} | step.values)
        return sorted(tuple(row) for row in result) if result.returns_rows else None

    ACTIONS[name] = (send, expectation)


# What each should do to the tenant's own rows, and answer.


def all_rows(rows: Rows, step: Step) -> object:
    return sorted(rows.items())


def busy_rows(rows: Rows, step: Step) -> object:
    return sorted((day, events) for day, events in rows.items() if events >= step.events)


def one_row(rows: Rows, step: Step) -> object:
    return rows.get(step.day)


def totals(rows: Rows, step: Step) -> object:
    return [(len(rows), sum(rows.values()))]


def pairs(rows: Rows, step: Step) -> object:
    return [(len(rows) ** 2,)]


def added(rows: Rows, step: Step) -> object:
    if step.day in rows:
        return REFUSED
    rows[step.day] = step.events
    return None


def added_if_new(rows: Rows, step: Step) -> object:
    rows.setdefault(step.day, step.events)
    return None


def put(rows: Rows, step: Step) -> object:
    rows[step.day] = step.events
    return None


def raised(rows: Rows, step: Step) -> object:
    rows.update({day: events + 1 for day, events in rows.items() if events >= step.events})
    return None


def emptied(rows: Rows, step: Step) -> object:
    for day in [day for day, events in rows.items() if events >= step.events]:
        del rows[day]
    return None


def emptied_and_told(rows: Rows, step: Step) -> object:
    told = busy_rows(rows, step)
    emptied(rows, step)
    return told


def foreign_row(rows: Rows, step: Step) -> object:
    return added(rows, step) if step.other == step.tenant else REFUSED


def foreign_rows_touched(rows: Rows, step: Step) -> object:
    if step.other == step.tenant:
        rows.clear()
    return None


def moved(rows: Rows, step: Step) -> object:
    return REFUSED if rows and step.other != step.tenant else None


# Through the ORM


@action(all_rows)
async def orm_select(session: AsyncSession, step: Step) -> object:
    rows = (await session.scalars(select(DailyUsage))).all()
    assert {row.tenant_id for row in rows} <= {step.tenant}
    return sorted((row.day, row.events) for row in rows)


@action(busy_rows)
async def orm_select_where(session: AsyncSession, step: Step) -> object:
    query = select(DailyUsage.day, DailyUsage.events).where(DailyUsage.events >= step.events)
    return sorted(tuple(row) for row in await session.execute(query))


@action(totals)
async def orm_aggregate(session: AsyncSession, step: Step) -> object:
    query = select(func.count(DailyUsage.day), func.coalesce(func.sum(DailyUsage.events), 0))
    return [tuple(row) for row in await session.execute(query)]


@action(one_row)
async def orm_get(session: AsyncSession, step: Step) -> object:
    row = await session.get(DailyUsage, (step.tenant, step.day))
    return None if row is None else row.events


@action(lambda rows, step: one_row(rows, step) if step.other == step.tenant else None)
async def orm_get_anothers(session: AsyncSession, step: Step) -> object:
    row = await session.get(DailyUsage, (step.other, step.day))
    return None if row is None else row.events


@action(added)
async def orm_add(session: AsyncSession, step: Step) -> object:
    session.add(DailyUsage(**step.values))
    await session.flush()
    return None


@action(added)
async def orm_bulk_insert(session: AsyncSession, step: Step) -> object:
    await session.execute(insert(DailyUsage), [step.values])
    return None


@action(foreign_row)
async def orm_add_anothers(session: AsyncSession, step: Step) -> object:
    session.add(DailyUsage(**step.foreign))
    await session.flush()
    return None


@action(foreign_row)
async def orm_insert_anothers(session: AsyncSession, step: Step) -> object:
    await session.execute(insert(DailyUsage).values(step.foreign))
    return None


@action(put)
async def orm_upsert(session: AsyncSession, step: Step) -> object:
    statement = postgresql.insert(DailyUsage).values(step.values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "day"], set_={"events": statement.excluded.events}
        )
    )
    return None


@action(added_if_new)
async def orm_insert_or_nothing(session: AsyncSession, step: Step) -> object:
    statement = postgresql.insert(DailyUsage).values(step.values)
    await session.execute(statement.on_conflict_do_nothing())
    return None


@action(raised)
async def orm_update(session: AsyncSession, step: Step) -> object:
    await session.execute(
        update(DailyUsage)
        .where(DailyUsage.events >= step.events)
        .values(events=DailyUsage.events + 1)
    )
    return None


@action(emptied)
async def orm_delete(session: AsyncSession, step: Step) -> object:
    await session.execute(delete(DailyUsage).where(DailyUsage.events >= step.events))
    return None


@action(moved)
async def orm_move(session: AsyncSession, step: Step) -> object:
    await session.execute(update(DailyUsage).values(tenant_id=step.other))
    return None


@action(foreign_rows_touched)
async def orm_delete_anothers(session: AsyncSession, step: Step) -> object:
    await session.execute(delete(DailyUsage).where(DailyUsage.tenant_id == step.other))
    return None


# As SQL

OWN = "current_setting('app.tenant_id')"
sql("select day, events from daily_usage", all_rows, name="sql_select")
sql(
    "select day, events from daily_usage where events >= :events or tenant_id <> 'none'",
    all_rows,
    name="sql_select_or",
)
sql("select count(*), coalesce(sum(events), 0) from daily_usage", totals, name="sql_aggregate")
sql("select count(*) from daily_usage, daily_usage as other", pairs, name="sql_join")
sql(
    "with every as materialized (table daily_usage) select day, events from every",
    all_rows,
    name="sql_cte",
)
sql(
    f"insert into daily_usage values ({OWN}, :day, :events, 0, 0, 0)",
    added,
    name="sql_insert",
)
sql(
    "insert into daily_usage values (:other, :day, :events, 0, 0, 0)",
    foreign_row,
    name="sql_insert_anothers",
)
sql(
    f"""
    insert into daily_usage values ({OWN}, :day, :events, 0, 0, 0)
    on conflict (tenant_id, day) do update set events = excluded.events
    """,
    put,
    name="sql_upsert",
)
sql(
    f"""
    insert into daily_usage values ({OWN}, :day, :events, 0, 0, 0)
    on conflict do nothing
    """,
    added_if_new,
    name="sql_insert_or_nothing",
)
sql(
    f"""
    merge into daily_usage
    using (select :day ::date as day, :events ::int as events) as given
        on daily_usage.day = given.day
    when matched then update set events = given.events
    when not matched then insert values ({OWN}, given.day, given.events, 0, 0, 0)
    """,
    put,
    name="sql_merge",
)
sql(
    "update daily_usage set events = events + 1 where events >= :events",
    raised,
    name="sql_update",
)
sql("update daily_usage set tenant_id = :other", moved, name="sql_move")
sql("delete from daily_usage where events >= :events", emptied, name="sql_delete")
sql("delete from daily_usage where tenant_id = :other", foreign_rows_touched, name="sql_delete_all")
sql(
    "delete from daily_usage where events >= :events returning day, events",
    emptied_and_told,
    name="sql_delete_returning",
)


# The hunt


@dataclass(frozen=True)
class Hunt:
    """A database, and a superuser's sight of it."""

    database: Database
    superuser: psycopg.Connection[Any]

    async def run(self, plan: list[Step]) -> None:
        """Runs `plan` on an empty table; raises `AssertionError` at the first difference."""
        model: Model = {tenant: {} for tenant in TENANTS}
        self.superuser.execute("truncate daily_usage")
        for step in plan:
            act, expect = ACTIONS[step.action]
            assert await self._answer(act, step) == expect(model[step.tenant], step), step
            assert self._contents() == model, step

    async def _answer(self, act: Action, step: Step) -> object:
        with within(self.database, step.tenant):
            try:
                async with tenant_session() as session:
                    return await act(session, step)
            except (TenantMismatch, IntegrityError):
                return REFUSED

    def _contents(self) -> Model:
        model: Model = {tenant: {} for tenant in TENANTS}
        rows = self.superuser.execute("select tenant_id, day, events from daily_usage")
        for tenant, day, events in rows:
            model[tenant][day] = events
        return model


@pytest.fixture(scope="module")
def hunting_ground(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    yield postgres.create_database("hunt", template=migrated_template)
    postgres.drop_database("hunt")


@pytest.fixture(scope="module")
async def hunt(hunting_ground: DatabaseUrls) -> AsyncIterator[Hunt]:
    database = Database(tenant_url=hunting_ground.tenant, tenant_pool_size=1)
    with connect(hunting_ground.superuser) as superuser:
        yield Hunt(database, superuser)
    await database.dispose()


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


def every_step() -> list[Step]:
    """All actions in turn by two tenants that each have rows."""
    rows = [Step(tenant, "cc", "sql_insert", FIRST_DAY, 3) for tenant in ("aa", "bb")]
    actions = [
        Step(tenant, other, name, FIRST_DAY + timedelta(1), 1)
        for name in sorted(ACTIONS)
        for tenant, other in (("aa", "bb"), ("bb", "aa"))
    ]
    return rows + actions


async def test_every_action_of_the_hunt_runs_as_modelled(hunt: Hunt) -> None:
    await hunt.run(every_step())


@contextmanager
def weakened(superuser: psycopg.Connection[Any], how: str, back: str) -> Iterator[None]:
    superuser.execute(how)
    try:
        yield
    finally:
        superuser.execute(back)


@pytest.mark.parametrize(
    ("how", "back"),
    [
        (
            "alter table daily_usage disable row level security",
            "alter table daily_usage enable row level security",
        ),
        ("alter role tenancy_tenant bypassrls", "alter role tenancy_tenant nobypassrls"),
        (
            """
            alter policy tenant_isolation on daily_usage using (true) with check (true);
            alter policy tenant_access on daily_usage using (true) with check (true)
            """,
            """
            alter policy tenant_isolation on daily_usage
                using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
                with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
            alter policy tenant_access on daily_usage
                using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
                with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
            """,
        ),
    ],
    ids=["disabled", "bypassed", "widened"],
)
async def test_the_hunt_finds_a_wall_that_is_down(hunt: Hunt, how: str, back: str) -> None:
    with weakened(hunt.superuser, how, back), pytest.raises(AssertionError):
        await hunt.run(every_step())

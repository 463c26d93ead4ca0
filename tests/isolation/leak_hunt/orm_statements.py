"""Statements as an application writes them: with models, and without naming the tenant.

Most of them would find no other tenant's row even without row-level security, because the ORM's own
filter applies first.
"""

from __future__ import annotations

from datetime import UTC, datetime, time

from sqlalchemy import cast, delete, exists, func, insert, select, union_all, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.types import Date

from saas.database.tables import DailyUsage, UsageEvent
from tests.isolation.leak_hunt.actions import action, answer
from tests.isolation.leak_hunt.expectations import (
    added,
    added_if_new,
    all_rows,
    busy_rows,
    days_with_flights,
    emptied,
    emptied_and_told,
    flown_days,
    foreign_row,
    foreign_rows_touched,
    moved,
    one_row,
    pairs,
    put,
    raised,
    totals,
)
from tests.isolation.leak_hunt.model import DUPLICATE, FIRST_DAY, Rows, Step

FLOWN = cast(func.timezone("UTC", UsageEvent.time_hour), Date)


@action(all_rows)
async def orm_select(session: AsyncSession, step: Step) -> object:
    rows = (await session.scalars(select(DailyUsage))).all()
    assert {row.tenant_id for row in rows} <= {step.tenant}
    return answer((row.day, row.events) for row in rows)


@action(busy_rows)
async def orm_select_where(session: AsyncSession, step: Step) -> object:
    query = select(DailyUsage.day, DailyUsage.events).where(DailyUsage.events >= step.events)
    return answer(await session.execute(query))


@action(totals)
async def orm_aggregate(session: AsyncSession, step: Step) -> object:
    query = select(func.count(DailyUsage.day), func.coalesce(func.sum(DailyUsage.events), 0))
    return answer(await session.execute(query))


# The filter does not apply to columns that are only in a window function.
@action(lambda rows, step: [(len(rows.usage),)] * len(rows.usage), meets_others=True)
async def orm_window(session: AsyncSession, step: Step) -> object:
    return answer(await session.execute(select(func.count(DailyUsage.day).over())))


@action(pairs)
async def orm_self_join(session: AsyncSession, step: Step) -> object:
    other = aliased(DailyUsage)
    query = select(func.count()).select_from(DailyUsage).join(other, other.day >= FIRST_DAY)
    return answer(await session.execute(query))


@action(flown_days)
async def orm_join(session: AsyncSession, step: Step) -> object:
    query = select(DailyUsage.day, UsageEvent.flight).join(UsageEvent, DailyUsage.day == FLOWN)
    return answer(await session.execute(query))


@action(days_with_flights, meets_others=True)  # the filter does not apply inside it
async def orm_exists(session: AsyncSession, step: Step) -> object:
    query = select(DailyUsage.day).where(exists().where(DailyUsage.day == FLOWN))
    return answer(await session.execute(query))


@action(busy_rows)
async def orm_cte(session: AsyncSession, step: Step) -> object:
    busy = select(DailyUsage.day, DailyUsage.events).where(DailyUsage.events >= step.events).cte()
    return answer(await session.execute(select(busy)))


@action(all_rows)
async def orm_subquery(session: AsyncSession, step: Step) -> object:
    every = select(DailyUsage.day, DailyUsage.events).subquery()
    return answer(await session.execute(select(every.c.day, every.c.events)))


@action(lambda rows, step: sorted([(day,) for day in rows.usage] * 2))
async def orm_union(session: AsyncSession, step: Step) -> object:
    days = select(DailyUsage.day)
    return answer(await session.execute(union_all(days, days)))


@action(one_row)
async def orm_get(session: AsyncSession, step: Step) -> object:
    row = await session.get(DailyUsage, (step.tenant, step.day))
    return None if row is None else row.events


@action(lambda rows, step: one_row(rows, step) if step.own else None)
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


@action(
    foreign_row, meets_others=True
)  # no row object and no parameters, so only the database checks it
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


def counted(rows: Rows, step: Step) -> object:
    rows.usage.update({day: len(rows.flights_on(day)) for day in rows.usage})
    return all_rows(rows, step)


@action(counted)
async def orm_update_from_subquery(session: AsyncSession, step: Step) -> object:
    flights = select(func.count(UsageEvent.flight)).where(DailyUsage.day == FLOWN)
    statement = update(DailyUsage).values(events=flights.scalar_subquery())
    return answer(await session.execute(statement.returning(DailyUsage.day, DailyUsage.events)))


@action(emptied)
async def orm_delete(session: AsyncSession, step: Step) -> object:
    await session.execute(delete(DailyUsage).where(DailyUsage.events >= step.events))
    return None


@action(emptied_and_told)
async def orm_delete_returning(session: AsyncSession, step: Step) -> object:
    statement = delete(DailyUsage).where(DailyUsage.events >= step.events)
    return answer(await session.execute(statement.returning(DailyUsage.day, DailyUsage.events)))


@action(moved, meets_others=True)  # only the database checks the new values
async def orm_move(session: AsyncSession, step: Step) -> object:
    await session.execute(update(DailyUsage).values(tenant_id=step.other))
    return None


@action(foreign_rows_touched)
async def orm_delete_anothers(session: AsyncSession, step: Step) -> object:
    await session.execute(delete(DailyUsage).where(DailyUsage.tenant_id == step.other))
    return None


def flown(rows: Rows, step: Step) -> object:
    if (step.day, step.events) in rows.flights:
        return DUPLICATE
    rows.flights.add((step.day, step.events))
    return None


@action(flown)
async def orm_add_flight(session: AsyncSession, step: Step) -> object:
    session.add(
        UsageEvent(
            time_hour=datetime.combine(step.day, time(12), UTC),
            carrier="XX",
            flight=step.events,
            origin="JFK",
            destination="LAX",
            distance=100,
            cancelled=False,
        )
    )
    await session.flush()
    return None


def rows_of_a_savepoint(rows: Rows, step: Step) -> object:
    if step.day in rows.usage:
        rows.usage[step.day] = step.events
    return all_rows(rows, step)


@action(rows_of_a_savepoint)
async def orm_savepoint(session: AsyncSession, step: Step) -> object:
    savepoint = await session.begin_nested()
    await session.execute(update(DailyUsage).values(events=7))
    await savepoint.rollback()
    async with session.begin_nested():
        await session.execute(
            update(DailyUsage).where(DailyUsage.day == step.day).values(events=step.events)
        )
    rows = await session.execute(select(DailyUsage.day, DailyUsage.events))
    return answer(rows)

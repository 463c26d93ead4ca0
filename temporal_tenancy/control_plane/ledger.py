"""The ledger: for each job, tick and tenant, what was planned and what became of it.

It, and not the workflow id, decides what has succeeded: the server forgets closed workflows after
the namespace's retention. So a row that says `succeeded` is never changed again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import LedgerRow, LedgerState, TickRow, TickState


@dataclass(frozen=True)
class Entry:
    """What is now known of one tenant's part of a tick."""

    tenant_id: str
    state: LedgerState
    reason: str | None = None  # why it was skipped, failed or not started
    error_type: str | None = None  # the failure's type, as Temporal has it
    workflow_id: str | None = None
    run_id: str | None = None
    due_at: datetime | None = None  # aware; not started before; None: now


@dataclass(frozen=True)
class Position:
    """A place in the order in which a tick's tenants have their turn."""

    due_at: datetime  # aware
    tenant_id: str


@dataclass(frozen=True)
class Turn:
    """A tenant that has not succeeded, and when its turn is."""

    position: Position
    state: LedgerState

    @property
    def tenant_id(self) -> str:
        """Whose turn it is."""
        return self.position.tenant_id


@dataclass(frozen=True)
class Slice:
    """Tenants that have their turns one behind the other."""

    upto: Position  # the last of them
    tenants: int


@dataclass(frozen=True)
class NeverBegun:
    """A tick that was due, and why it may not have begun."""

    job: str
    tick: str
    nominal_time: datetime  # aware
    reason: str


_OPEN: Final = text("""
    insert into ticks (job, tick, nominal_time, workflow_id, run_id, state)
    values (:job, :tick, :nominal_time, :workflow_id, :run_id, 'running')
    on conflict (job, tick) do update
       set state = 'running',
           reason = null,
           workflow_id = excluded.workflow_id,
           run_id = excluded.run_id,
           nominal_time = coalesce(ticks.nominal_time, excluded.nominal_time),
           started_at = now(),
           ended_at = null
""")

_ALL_PLANNED: Final = text("""
    update ticks set planned_at = coalesce(planned_at, now()) where job = :job and tick = :tick
""")

# Several fan-outs may serve one tick, at the times of several time zones: the last one closes it.
_CLOSE: Final = text("""
    update ticks
       set state = :state, reason = :reason, ended_at = now()
     where job = :job
       and tick = :tick
       and (workflow_id = :workflow_id or state = 'running')
       and not exists (
             select from ledger
              where ledger.job = ticks.job
                and ledger.tick = ticks.tick
                and ledger.state in ('planned', 'running')
                and ledger.planned_by <> :workflow_id
           )
""")

# One statement for a page of tenants, whatever its size: arrays in, rows out.
_UNNEST: Final = """
    select *
      from unnest(
             cast(:tenants as text[]), cast(:states as text[]), cast(:reasons as text[]),
             cast(:error_types as text[]), cast(:workflow_ids as text[]), cast(:run_ids as text[]),
             cast(:due_ats as timestamptz[])
           ) as given (tenant_id, state, reason, error_type, workflow_id, run_id, due_at)
"""

_PLAN: Final = text(f"""
    insert into ledger (
        job, tick, tenant_id, state, reason, error_type, workflow_id, planned_by, due_at
    )
    select :job, :tick, tenant_id, state, reason, error_type, workflow_id, :planned_by,
           coalesce(due_at, now())
      from ({_UNNEST}) as given
    on conflict (job, tick, tenant_id) do update
       set state = excluded.state,
           reason = excluded.reason,
           error_type = excluded.error_type,
           workflow_id = excluded.workflow_id,
           planned_by = excluded.planned_by,
           due_at = excluded.due_at,
           run_id = null,
           planned_at = now(),
           started_at = null,
           ended_at = null
     where ledger.state not in ('succeeded', 'running')
""")

# What runs is left as it is, but for who follows it to its end.
_TAKE_OVER: Final = text("""
    update ledger
       set planned_by = :planned_by
     where job = :job
       and tick = :tick
       and tenant_id = any (cast(:tenants as text[]))
       and state = 'running'
       and planned_by is distinct from :planned_by
""")

_RELEASE: Final = text("""
    update ledger
       set planned_by = null
     where job = :job and tick = :tick and planned_by = :planned_by and state <> 'succeeded'
""")

_SLICES: Final = text("""
    select due_at, tenant_id, number
      from (
             select due_at, tenant_id,
                    row_number() over (order by due_at, tenant_id) as number,
                    count(*) over () as total
               from ledger
              where job = :job
                and tick = :tick
                and planned_by = :planned_by
                and state <> 'succeeded'
           ) as numbered
     where number % :size = 0 or number = total
     order by number
""")

_RECORD: Final = text(f"""
    update ledger
       set state = given.state,
           reason = given.reason,
           error_type = given.error_type,
           workflow_id = coalesce(given.workflow_id, ledger.workflow_id),
           run_id = coalesce(given.run_id, ledger.run_id),
           attempts = ledger.attempts + case when given.state = 'running' then 1 else 0 end,
           started_at = case when given.state = 'running' then now() else ledger.started_at end,
           ended_at = case when given.state = 'running' then null else now() end
      from ({_UNNEST}) as given
     where ledger.job = :job
       and ledger.tick = :tick
       and ledger.tenant_id = given.tenant_id
       and ledger.state <> 'succeeded'
       and ledger.state = coalesce(:was, ledger.state)
""")

_PAGE: Final = text("""
    select due_at, tenant_id, state
      from ledger
     where job = :job
       and tick = :tick
       and planned_by = :planned_by
       and state <> 'succeeded'
       and (due_at, tenant_id) > (
             coalesce(cast(:after_due as timestamptz), '-infinity'), coalesce(:after_id, '')
           )
       and (due_at, tenant_id) <= (:upto_due, :upto_id)
     order by due_at, tenant_id
     limit :limit
""")

_ABANDON: Final = text("""
    update ledger
       set state = 'not_started', reason = :reason, ended_at = now()
     where job = :job
       and tick = :tick
       and state = 'planned'
       and planned_by = :planned_by
""")

# A fan-out that was lost: it can no longer close its tick itself.
_CLOSE_LOST: Final = text("""
    update ticks
       set state = 'failed', reason = :reason, ended_at = now()
     where job = :job and tick = :tick and state = 'running' and run_id = :run_id
""")

_NOTE_MISSED: Final = text("""
    insert into ticks (job, tick, nominal_time, state, reason)
    select job, tick, nominal_time, 'missed', reason
      from unnest(
             cast(:jobs as text[]), cast(:ticks as text[]), cast(:nominal_times as timestamptz[]),
             cast(:reasons as text[])
           ) as given (job, tick, nominal_time, reason)
    on conflict (job, tick) do nothing
    returning job, tick
""")

# The tick goes with the last of its rows.
_PRUNE: Final = text("""
    with pruned as (
        delete from ledger
         where (job, tick, tenant_id) in (
                 select job, tick, tenant_id
                   from ledger
                  where job = :job and tick = :tick
                  limit :limit
               )
        returning 1
    ), counted as (
        select count(*) as rows from pruned
    ), forgotten as (
        delete from ticks
         where job = :job and tick = :tick and (select rows from counted) < :limit
    )
    select rows from counted
""")

_WITHOUT_ROWS: Final = text("""
    select tick, tenant_id
      from unnest(cast(:ticks as text[])) as of_job (tick),
           unnest(cast(:tenants as text[])) as living (tenant_id)
     where not exists (
             select from ledger
              where ledger.job = :job
                and ledger.tick = of_job.tick
                and ledger.tenant_id = living.tenant_id
           )
""")

_COUNT: Final = text("""
    select state, count(*) from ledger where job = :job and tick = :tick group by state
""")


async def open_tick(
    session: AsyncSession,
    job: str,
    tick: str,
    *,
    nominal_time: datetime | None,
    workflow_id: str,
    run_id: str,
) -> None:
    """Notes that a fan-out of `job` for `tick` has begun, perhaps again."""
    given = {"nominal_time": nominal_time, "workflow_id": workflow_id, "run_id": run_id}
    await session.execute(_OPEN, {"job": job, "tick": tick, **given})


async def close_tick(
    session: AsyncSession,
    job: str,
    tick: str,
    state: TickState,
    *,
    workflow_id: str,
    reason: str | None = None,
) -> None:
    """Notes how a fan-out ended; nothing while another one has tenants of the tick to run."""
    given = {"job": job, "tick": tick, "state": state.value, "reason": reason}
    await session.execute(_CLOSE, {**given, "workflow_id": workflow_id})


async def plan(
    session: AsyncSession, job: str, tick: str, entries: Sequence[Entry], *, planned_by: str
) -> None:
    """Writes `planned` and `skipped` entries over what neither has succeeded nor is running.

    They are then `planned_by`'s to run (the workflow id of a fan-out), and what runs its to follow.
    """
    given = {**_arrays(job, tick, entries), "planned_by": planned_by}
    await session.execute(_PLAN, given)
    await session.execute(_TAKE_OVER, given)


async def all_planned(session: AsyncSession, job: str, tick: str) -> None:
    """Notes that every tenant that a tick is for has a row."""
    await session.execute(_ALL_PLANNED, {"job": job, "tick": tick})


async def slices(
    session: AsyncSession, job: str, tick: str, *, planned_by: str, size: int
) -> list[Slice]:
    """Divides the tenants that are `planned_by`'s, in the order of their turns, by `size`."""
    given = {"job": job, "tick": tick, "planned_by": planned_by, "size": size}
    found: list[Slice] = []
    before = 0
    for row in await session.execute(_SLICES, given):
        found.append(Slice(Position(row.due_at, row.tenant_id), row.number - before))
        before = row.number
    return found


async def record(
    session: AsyncSession,
    job: str,
    tick: str,
    entries: Sequence[Entry],
    *,
    was: LedgerState | None = None,
) -> None:
    """Writes what became of tenants, each once in `entries`; with `was` only over that state."""
    given = {**_arrays(job, tick, entries), "was": None if was is None else was.value}
    await session.execute(_RECORD, given)


async def page(
    session: AsyncSession,
    job: str,
    tick: str,
    *,
    planned_by: str,
    after: Position | None,
    upto: Position,
    limit: int,
) -> list[Turn]:
    """The next turns of those that are `planned_by`'s: behind `after`, up to `upto`."""
    given = {
        "job": job,
        "tick": tick,
        "planned_by": planned_by,
        "after_due": after.due_at if after else None,
        "after_id": after.tenant_id if after else None,
        "upto_due": upto.due_at,
        "upto_id": upto.tenant_id,
        "limit": limit,
    }
    return [
        Turn(Position(row.due_at, row.tenant_id), LedgerState(row.state))
        for row in await session.execute(_PAGE, given)
    ]


async def abandon(
    session: AsyncSession, job: str, tick: str, reason: str, *, planned_by: str
) -> None:
    """Notes that what a fan-out had still to start is not started."""
    given = {"job": job, "tick": tick, "reason": reason, "planned_by": planned_by}
    await session.execute(_ABANDON, given)


async def known(
    session: AsyncSession, job: str, tick: str, tenant_ids: Collection[str]
) -> frozenset[str]:
    """Those of the tenants that have a row in a tick."""
    rows = select(LedgerRow.tenant_id).where(
        LedgerRow.job == job, LedgerRow.tick == tick, LedgerRow.tenant_id.in_(tenant_ids)
    )
    return frozenset(await session.scalars(rows))


async def without_rows(
    session: AsyncSession, job: str, ticks: Sequence[str], tenant_ids: Sequence[str]
) -> Sequence[tuple[str, str]]:
    """The pairs of tick and tenant that have no row."""
    given = {"job": job, "ticks": ticks, "tenants": tenant_ids}
    return [(row.tick, row.tenant_id) for row in await session.execute(_WITHOUT_ROWS, given)]


async def planned_by_others(
    session: AsyncSession, job: str, tick: str, tenant_ids: Collection[str], *, planned_by: str
) -> frozenset[str]:
    """Those of the tenants that another fan-out than `planned_by` has still to start."""
    rows = select(LedgerRow.tenant_id).where(
        LedgerRow.job == job,
        LedgerRow.tick == tick,
        LedgerRow.tenant_id.in_(tenant_ids),
        LedgerRow.state == LedgerState.PLANNED,
        LedgerRow.planned_by != planned_by,
    )
    return frozenset(await session.scalars(rows))


async def release(session: AsyncSession, job: str, tick: str, *, planned_by: str) -> None:
    """Takes from a fan-out what an earlier run of the same workflow id has left in a tick."""
    given = {"job": job, "tick": tick, "planned_by": planned_by}
    await session.execute(_RELEASE, given)


async def ticks_of_run(session: AsyncSession, job: str, run_id: str) -> Sequence[str]:
    """The ticks that a run of a fan-out was the last to open."""
    rows = select(TickRow.tick).where(TickRow.job == job, TickRow.run_id == run_id)
    return (await session.scalars(rows)).all()


async def count(session: AsyncSession, job: str, tick: str) -> dict[LedgerState, int]:
    """How many tenants of a tick are in each state; states without a tenant are 0."""
    found = dict.fromkeys(LedgerState, 0)
    for state, number in await session.execute(_COUNT, {"job": job, "tick": tick}):
        found[LedgerState(state)] = number
    return found


async def find_tick(session: AsyncSession, job: str, tick: str) -> TickRow | None:
    """The tick, if there has been one."""
    return await session.get(TickRow, (job, tick))


async def latest_ticks(
    session: AsyncSession, *, job: str | None = None, limit: int
) -> Sequence[TickRow]:
    """The ticks that began last, of one job or of all."""
    query = select(TickRow).order_by(TickRow.started_at.desc()).limit(limit)
    if job is not None:
        query = query.where(TickRow.job == job)
    return (await session.scalars(query)).all()


async def rows(session: AsyncSession, job: str, tick: str) -> Sequence[LedgerRow]:
    """A tick's rows, in order of tenant."""
    query = (
        select(LedgerRow)
        .where(LedgerRow.job == job, LedgerRow.tick == tick)
        .order_by(LedgerRow.tenant_id)
    )
    return (await session.scalars(query)).all()


async def in_doubt(
    session: AsyncSession, job: str, tick: str, *, after: str | None, limit: int
) -> Sequence[LedgerRow]:
    """A tick's rows that have not succeeded, in order of tenant, from behind `after`."""
    query = (
        select(LedgerRow)
        .where(
            LedgerRow.job == job,
            LedgerRow.tick == tick,
            LedgerRow.tenant_id > (after or ""),
            LedgerRow.state != LedgerState.SUCCEEDED,
        )
        .order_by(LedgerRow.tenant_id)
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def fan_outs_at_work(session: AsyncSession, job: str, tick: str) -> Sequence[str]:
    """The workflow ids of the fan-outs that still have tenants of a tick to start or to follow."""
    query = (
        select(LedgerRow.planned_by)
        .where(
            LedgerRow.job == job,
            LedgerRow.tick == tick,
            LedgerRow.state.in_((LedgerState.PLANNED, LedgerState.RUNNING)),
            LedgerRow.planned_by.is_not(None),
        )
        .distinct()
    )
    return [str(each) for each in await session.scalars(query)]


async def close_lost(session: AsyncSession, tick: TickRow, *, reason: str) -> None:
    """Closes a tick whose fan-out has ended without doing so, unless another has begun."""
    given = {"job": tick.job, "tick": tick.tick, "run_id": tick.run_id, "reason": reason}
    await session.execute(_CLOSE_LOST, given)


async def known_ticks(session: AsyncSession, jobs: Collection[str]) -> set[tuple[str, str]]:
    """Job and tick of all that is noted of some jobs."""
    query = select(TickRow.job, TickRow.tick).where(TickRow.job.in_(jobs))
    return {(row.job, row.tick) for row in await session.execute(query)}


async def note_missed(session: AsyncSession, ticks: Sequence[NeverBegun]) -> set[tuple[str, str]]:
    """Writes that ticks never began, but for those that did; returns job and tick of the new."""
    given = {
        "jobs": [each.job for each in ticks],
        "ticks": [each.tick for each in ticks],
        "nominal_times": [each.nominal_time for each in ticks],
        "reasons": [each.reason for each in ticks],
    }
    return {(row.job, row.tick) for row in await session.execute(_NOTE_MISSED, given)}


async def ticks_in(session: AsyncSession, state: TickState) -> Sequence[TickRow]:
    """The ticks in a state, the oldest first."""
    query = select(TickRow).where(TickRow.state == state).order_by(TickRow.started_at)
    return (await session.scalars(query)).all()


async def ticks_before(session: AsyncSession, moment: datetime) -> Sequence[TickRow]:
    """The ticks that last began before `moment` and do not run, the oldest first."""
    query = (
        select(TickRow)
        .where(TickRow.started_at < moment, TickRow.state != TickState.RUNNING)
        .order_by(TickRow.started_at)
    )
    return (await session.scalars(query)).all()


async def unfinished_ticks(
    session: AsyncSession, *, job: str | None, tick: str | None
) -> Sequence[TickRow]:
    """The ticks that were never planned to the end, or have rows that have not succeeded.

    In order of job and time; those that never began are among the first.
    """
    left = [state for state in LedgerState if state is not LedgerState.SUCCEEDED]
    row = select(LedgerRow.tick).where(
        LedgerRow.job == TickRow.job, LedgerRow.tick == TickRow.tick, LedgerRow.state.in_(left)
    )
    query = (
        select(TickRow)
        .where(or_(TickRow.planned_at.is_(None), row.exists()))
        .order_by(TickRow.job, TickRow.nominal_time, TickRow.tick)
    )
    if job is not None:
        query = query.where(TickRow.job == job)
    if tick is not None:
        query = query.where(TickRow.tick == tick)
    return (await session.scalars(query)).all()


async def begun_ticks(session: AsyncSession, job: str) -> Sequence[TickRow]:
    """The ticks of a job that have begun, in order of time."""
    query = (
        select(TickRow)
        .where(TickRow.job == job, TickRow.state != TickState.MISSED)
        .order_by(TickRow.nominal_time, TickRow.tick)
    )
    return (await session.scalars(query)).all()


async def is_newest(session: AsyncSession, tick: TickRow) -> bool:
    """Whether no tick of the same job was due, or where that is not known began, after this one."""
    due = func.coalesce(TickRow.nominal_time, TickRow.started_at)
    later = select(TickRow.tick).where(
        TickRow.job == tick.job, due > (tick.nominal_time or tick.started_at)
    )
    return (await session.execute(later.limit(1))).first() is None


async def prune(session: AsyncSession, job: str, tick: str, *, limit: int) -> int:
    """Deletes up to `limit` rows of a tick, with the last one the tick; returns how many."""
    given = {"job": job, "tick": tick, "limit": limit}
    return int((await session.execute(_PRUNE, given)).scalar_one())


async def row_of_workflow(session: AsyncSession, workflow_id: str) -> LedgerRow | None:
    """The ledger row that a child workflow serves, if it serves one."""
    tenant_id, job, tick = workflow_id.split("/", 2)
    return await session.get(LedgerRow, (job, tick, tenant_id))


def _arrays(job: str, tick: str, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "job": job,
        "tick": tick,
        "tenants": [entry.tenant_id for entry in entries],
        "states": [entry.state.value for entry in entries],
        "reasons": [entry.reason for entry in entries],
        "error_types": [entry.error_type for entry in entries],
        "workflow_ids": [entry.workflow_id for entry in entries],
        "run_ids": [entry.run_id for entry in entries],
        "due_ats": [entry.due_at for entry in entries],
    }

"""The ledger: one row per job, tick and tenant, with the state of that tenant's run.

The ledger, not the workflow id, decides what has succeeded, because the server forgets closed
workflows after the namespace's retention. So a row with the state `succeeded` never changes again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import LedgerRow, LedgerState, TickRow, TickState
from temporal_tenancy.postgres.library_text import library_text


@dataclass(frozen=True)
class Entry:
    """The new state of one tenant's part of a tick."""

    tenant_id: str
    state: LedgerState
    reason: str | None = None  # why it was skipped, failed or not started
    error_type: str | None = None  # Temporal's failure type
    workflow_id: str | None = None
    run_id: str | None = None
    due_at: datetime | None = None  # aware; the earliest start; None: now
    build_id: str | None = None  # of the worker version that a release gave the run
    deployment: str | None = None  # of that version


@dataclass(frozen=True)
class Position:
    """A position in the order in which a tick's tenants start: by due time, then by id."""

    due_at: datetime  # aware
    tenant_id: str


@dataclass(frozen=True)
class Turn:
    """A tenant that has not succeeded, and its position in the order."""

    position: Position
    state: LedgerState

    @property
    def tenant_id(self) -> str:
        """The id of the tenant."""
        return self.position.tenant_id


@dataclass(frozen=True)
class Slice:
    """A range of consecutive tenants in the order."""

    upto: Position  # of the last tenant, inclusive
    tenants: int  # their number


@dataclass(frozen=True)
class NeverBegun:
    """A tick that was due but never began, with the probable reason."""

    job: str
    tick: str
    nominal_time: datetime  # aware
    reason: str


_OPEN: Final = library_text("""
    insert into tenancy.ticks (job, tick, nominal_time, workflow_id, run_id, state)
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

_ALL_PLANNED: Final = library_text("""
    update tenancy.ticks
       set planned_at = coalesce(planned_at, now())
     where job = :job and tick = :tick
""")

# Several fan-outs can serve one tick, one per time zone; the last one to end closes it.
_CLOSE: Final = library_text("""
    update tenancy.ticks
       set state = :state, reason = :reason, ended_at = now()
     where job = :job
       and tick = :tick
       and (workflow_id = :workflow_id or state = 'running')
       and not exists (
             select from tenancy.ledger
              where ledger.job = ticks.job
                and ledger.tick = ticks.tick
                and ledger.state in ('planned', 'running')
                and ledger.planned_by <> :workflow_id
           )
""")

# Arrays, so that a page of any size is one statement.
_UNNEST: Final = """
    select *
      from unnest(
             cast(:tenants as text[]), cast(:states as text[]), cast(:reasons as text[]),
             cast(:error_types as text[]), cast(:workflow_ids as text[]), cast(:run_ids as text[]),
             cast(:due_ats as timestamptz[]), cast(:build_ids as text[]),
             cast(:deployments as text[])
           ) as entry (
             tenant_id, state, reason, error_type, workflow_id, run_id, due_at, build_id,
             deployment
           )
"""

_PLAN: Final = library_text(f"""
    insert into tenancy.ledger (
        job, tick, tenant_id, state, reason, error_type, workflow_id, planned_by, due_at
    )
    select :job, :tick, tenant_id, state, reason, error_type, workflow_id, :planned_by,
           coalesce(due_at, now())
      from ({_UNNEST}) as entry
    on conflict (job, tick, tenant_id) do update
       set state = excluded.state,
           reason = excluded.reason,
           error_type = excluded.error_type,
           workflow_id = excluded.workflow_id,
           planned_by = excluded.planned_by,
           due_at = excluded.due_at,
           run_id = null,
           build_id = null,
           deployment = null,
           planned_at = now(),
           started_at = null,
           ended_at = null
     where ledger.state not in ('succeeded', 'running')
""")

# Running rows keep their state; only the fan-out that waits for them changes.
_TAKE_OVER: Final = library_text("""
    update tenancy.ledger
       set planned_by = :planned_by
     where job = :job
       and tick = :tick
       and tenant_id = any (cast(:tenants as text[]))
       and state = 'running'
       and planned_by is distinct from :planned_by
""")

_RELEASE: Final = library_text("""
    update tenancy.ledger
       set planned_by = null
     where job = :job and tick = :tick and planned_by = :planned_by and state <> 'succeeded'
""")

_SLICES: Final = library_text("""
    select due_at, tenant_id, number
      from (
             select due_at, tenant_id,
                    row_number() over (order by due_at, tenant_id) as number,
                    count(*) over () as total
               from tenancy.ledger
              where job = :job
                and tick = :tick
                and planned_by = :planned_by
                and state <> 'succeeded'
           ) as numbered
     where number % :size = 0 or number = total
     order by number
""")

_RECORD: Final = library_text(f"""
    update tenancy.ledger
       set state = entry.state,
           reason = entry.reason,
           error_type = entry.error_type,
           workflow_id = coalesce(entry.workflow_id, ledger.workflow_id),
           run_id = coalesce(entry.run_id, ledger.run_id),
           build_id = coalesce(entry.build_id, ledger.build_id),
           deployment = case when entry.build_id is null then ledger.deployment
                             else entry.deployment end,
           attempts = ledger.attempts + case when entry.state = 'running' then 1 else 0 end,
           started_at = case when entry.state = 'running' then now() else ledger.started_at end,
           ended_at = case when entry.state = 'running' then null else now() end
      from ({_UNNEST}) as entry
     where ledger.job = :job
       and ledger.tick = :tick
       and ledger.tenant_id = entry.tenant_id
       and ledger.state <> 'succeeded'
       and ledger.state = coalesce(:was, ledger.state)
""")

_PAGE: Final = library_text("""
    select due_at, tenant_id, state
      from tenancy.ledger
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

_ABANDON: Final = library_text("""
    update tenancy.ledger
       set state = 'not_started', reason = :reason, ended_at = now()
     where job = :job
       and tick = :tick
       and state = 'planned'
       and planned_by = :planned_by
""")

# For a fan-out that has ended without closing its tick.
_CLOSE_LOST: Final = library_text("""
    update tenancy.ticks
       set state = 'failed', reason = :reason, ended_at = now()
     where job = :job and tick = :tick and state = 'running' and run_id = :run_id
""")

_NOTE_MISSED: Final = library_text("""
    insert into tenancy.ticks (job, tick, nominal_time, state, reason)
    select job, tick, nominal_time, 'missed', reason
      from unnest(
             cast(:jobs as text[]), cast(:ticks as text[]), cast(:nominal_times as timestamptz[]),
             cast(:reasons as text[])
           ) as missed (job, tick, nominal_time, reason)
    on conflict (job, tick) do nothing
    returning job, tick
""")

# The tick is deleted with the last of its rows.
_PRUNE: Final = library_text("""
    with pruned as (
        delete from tenancy.ledger
         where (job, tick, tenant_id) in (
                 select job, tick, tenant_id
                   from tenancy.ledger
                  where job = :job and tick = :tick
                  limit :limit
               )
        returning 1
    ), counted as (
        select count(*) as rows from pruned
    ), forgotten as (
        delete from tenancy.ticks
         where job = :job and tick = :tick and (select rows from counted) < :limit
    )
    select rows from counted
""")

_WITHOUT_ROWS: Final = library_text("""
    select tick, tenant_id
      from unnest(cast(:ticks as text[])) as of_job (tick),
           unnest(cast(:tenants as text[])) as living (tenant_id)
     where not exists (
             select from tenancy.ledger
              where ledger.job = :job
                and ledger.tick = of_job.tick
                and ledger.tenant_id = living.tenant_id
           )
""")

_COUNT: Final = library_text("""
    select state, count(*) from tenancy.ledger where job = :job and tick = :tick group by state
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
    """Records that a fan-out of `job` for `tick` has started; safe to repeat."""
    fan_out = {"nominal_time": nominal_time, "workflow_id": workflow_id, "run_id": run_id}
    await session.execute(_OPEN, {"job": job, "tick": tick, **fan_out})


async def close_tick(
    session: AsyncSession,
    job: str,
    tick: str,
    state: TickState,
    *,
    workflow_id: str,
    reason: str | None = None,
) -> None:
    """Records how the fan-out `workflow_id` ended; no effect while another still runs tenants."""
    parameters = {"job": job, "tick": tick, "state": state.value, "reason": reason}
    await session.execute(_CLOSE, {**parameters, "workflow_id": workflow_id})


async def plan(
    session: AsyncSession, job: str, tick: str, entries: Sequence[Entry], *, planned_by: str
) -> None:
    """Writes `planned` and `skipped` rows, except over rows that have succeeded or are running.

    Args:
        session: of the platform.
        job: the name of a tenant job.
        tick: the key of the tick.
        entries: one per tenant.
        planned_by: the workflow id of the fan-out that starts these tenants from now on, and that
            waits for those that are already running.
    """
    parameters = {**_arrays(job, tick, entries), "planned_by": planned_by}
    await session.execute(_PLAN, parameters)
    await session.execute(_TAKE_OVER, parameters)


async def all_planned(session: AsyncSession, job: str, tick: str) -> None:
    """Records that every tenant of a tick now has a row."""
    await session.execute(_ALL_PLANNED, {"job": job, "tick": tick})


async def slices(
    session: AsyncSession, job: str, tick: str, *, planned_by: str, size: int
) -> list[Slice]:
    """Divides the unfinished tenants of the fan-out `planned_by` into slices.

    Returns:
        Slices of `size` tenants each, in order; the last can be smaller.
    """
    parameters = {"job": job, "tick": tick, "planned_by": planned_by, "size": size}
    result: list[Slice] = []
    before = 0
    for row in await session.execute(_SLICES, parameters):
        result.append(Slice(Position(row.due_at, row.tenant_id), row.number - before))
        before = row.number
    return result


async def record(
    session: AsyncSession,
    job: str,
    tick: str,
    entries: Sequence[Entry],
    *,
    was: LedgerState | None = None,
) -> None:
    """Updates rows with the new states of their tenants, except rows that have succeeded.

    Args:
        session: of the platform.
        job: the name of a tenant job.
        tick: the key of the tick.
        entries: at most one per tenant.
        was: update only rows in this state; None updates rows in any.
    """
    parameters = {**_arrays(job, tick, entries), "was": None if was is None else was.value}
    await session.execute(_RECORD, parameters)


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
    """Returns the next `limit` unfinished tenants of the fan-out `planned_by`, in order.

    Args:
        session: of the platform.
        job: the name of a tenant job.
        tick: the key of the tick.
        planned_by: the workflow id of the fan-out.
        after: exclusive; None starts at the first tenant.
        upto: inclusive.
        limit: the size of the page, in tenants.
    """
    parameters = {
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
        for row in await session.execute(_PAGE, parameters)
    ]


async def abandon(
    session: AsyncSession, job: str, tick: str, reason: str, *, planned_by: str
) -> None:
    """Marks the tenants that the fan-out `planned_by` has not started as `not_started`."""
    parameters = {"job": job, "tick": tick, "reason": reason, "planned_by": planned_by}
    await session.execute(_ABANDON, parameters)


async def known(
    session: AsyncSession, job: str, tick: str, tenant_ids: Collection[str]
) -> frozenset[str]:
    """Returns which of the tenants have a row in a tick."""
    rows = select(LedgerRow.tenant_id).where(
        LedgerRow.job == job, LedgerRow.tick == tick, LedgerRow.tenant_id.in_(tenant_ids)
    )
    return frozenset(await session.scalars(rows))


async def without_rows(
    session: AsyncSession, job: str, ticks: Sequence[str], tenant_ids: Sequence[str]
) -> Sequence[tuple[str, str]]:
    """Returns the pairs `(tick, tenant id)` of all ticks and tenants that have no row."""
    parameters = {"job": job, "ticks": ticks, "tenants": tenant_ids}
    return [(row.tick, row.tenant_id) for row in await session.execute(_WITHOUT_ROWS, parameters)]


async def planned_by_others(
    session: AsyncSession, job: str, tick: str, tenant_ids: Collection[str], *, planned_by: str
) -> frozenset[str]:
    """Returns which of the tenants a fan-out other than `planned_by` will still start."""
    rows = select(LedgerRow.tenant_id).where(
        LedgerRow.job == job,
        LedgerRow.tick == tick,
        LedgerRow.tenant_id.in_(tenant_ids),
        LedgerRow.state == LedgerState.PLANNED,
        LedgerRow.planned_by != planned_by,
    )
    return frozenset(await session.scalars(rows))


async def release(session: AsyncSession, job: str, tick: str, *, planned_by: str) -> None:
    """Releases the unfinished tenants that an earlier run of the fan-out `planned_by` left."""
    parameters = {"job": job, "tick": tick, "planned_by": planned_by}
    await session.execute(_RELEASE, parameters)


async def ticks_of_run(session: AsyncSession, job: str, run_id: str) -> Sequence[str]:
    """Returns the ticks that the fan-out run `run_id` was the last to open."""
    rows = select(TickRow.tick).where(TickRow.job == job, TickRow.run_id == run_id)
    return (await session.scalars(rows)).all()


async def count(session: AsyncSession, job: str, tick: str) -> dict[LedgerState, int]:
    """Returns the number of tenants of a tick in each state, with 0 for states without any."""
    counts = dict.fromkeys(LedgerState, 0)
    for state, number in await session.execute(_COUNT, {"job": job, "tick": tick}):
        counts[LedgerState(state)] = number
    return counts


async def find_tick(session: AsyncSession, job: str, tick: str) -> TickRow | None:
    """Returns a tick, or None if it is not in the ledger."""
    return await session.get(TickRow, (job, tick))


async def latest_ticks(
    session: AsyncSession, *, job: str | None = None, limit: int
) -> Sequence[TickRow]:
    """Returns the last `limit` ticks to begin, newest first; of one job or, with None, of all."""
    query = select(TickRow).order_by(TickRow.started_at.desc()).limit(limit)
    if job is not None:
        query = query.where(TickRow.job == job)
    return (await session.scalars(query)).all()


async def rows(session: AsyncSession, job: str, tick: str) -> Sequence[LedgerRow]:
    """Returns all rows of a tick, ordered by tenant id."""
    query = (
        select(LedgerRow)
        .where(LedgerRow.job == job, LedgerRow.tick == tick)
        .order_by(LedgerRow.tenant_id)
    )
    return (await session.scalars(query)).all()


async def in_doubt(
    session: AsyncSession, job: str, tick: str, *, after: str | None, limit: int
) -> Sequence[LedgerRow]:
    """Returns up to `limit` rows of a tick that have not succeeded, by tenant id, after `after`."""
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
    """Returns the workflow ids of the fan-outs with tenants of a tick to start or to wait for."""
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
    return [str(workflow_id) for workflow_id in await session.scalars(query)]


async def close_lost(session: AsyncSession, tick: TickRow, *, reason: str) -> None:
    """Marks a tick as failed whose fan-out ended without closing it, unless another has begun."""
    parameters = {"job": tick.job, "tick": tick.tick, "run_id": tick.run_id, "reason": reason}
    await session.execute(_CLOSE_LOST, parameters)


async def known_ticks(session: AsyncSession, jobs: Collection[str]) -> set[tuple[str, str]]:
    """Returns the pairs `(job, tick)` of all ticks of these jobs."""
    query = select(TickRow.job, TickRow.tick).where(TickRow.job.in_(jobs))
    return {(row.job, row.tick) for row in await session.execute(query)}


async def note_missed(session: AsyncSession, ticks: Sequence[NeverBegun]) -> set[tuple[str, str]]:
    """Records ticks as missed, except those that have a row already.

    Returns:
        The pairs `(job, tick)` that are new.
    """
    parameters = {
        "jobs": [tick.job for tick in ticks],
        "ticks": [tick.tick for tick in ticks],
        "nominal_times": [tick.nominal_time for tick in ticks],
        "reasons": [tick.reason for tick in ticks],
    }
    return {(row.job, row.tick) for row in await session.execute(_NOTE_MISSED, parameters)}


async def ticks_in(session: AsyncSession, state: TickState) -> Sequence[TickRow]:
    """Returns the ticks in a state, oldest first."""
    query = select(TickRow).where(TickRow.state == state).order_by(TickRow.started_at)
    return (await session.scalars(query)).all()


async def ticks_before(session: AsyncSession, moment: datetime) -> Sequence[TickRow]:
    """Returns ticks that last began before `moment` (aware) and are not running, oldest first."""
    query = (
        select(TickRow)
        .where(TickRow.started_at < moment, TickRow.state != TickState.RUNNING)
        .order_by(TickRow.started_at)
    )
    return (await session.scalars(query)).all()


async def unfinished_ticks(
    session: AsyncSession, *, job: str | None, tick: str | None
) -> Sequence[TickRow]:
    """Returns the ticks that lack rows for some tenants or have rows that have not succeeded.

    They are ordered by job and nominal time, and include ticks that never began. With None, `job`
    and `tick` match any.
    """
    unfinished = [state for state in LedgerState if state is not LedgerState.SUCCEEDED]
    row = select(LedgerRow.tick).where(
        LedgerRow.job == TickRow.job,
        LedgerRow.tick == TickRow.tick,
        LedgerRow.state.in_(unfinished),
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
    """Returns the ticks of a job that have begun, ordered by nominal time."""
    query = (
        select(TickRow)
        .where(TickRow.job == job, TickRow.state != TickState.MISSED)
        .order_by(TickRow.nominal_time, TickRow.tick)
    )
    return (await session.scalars(query)).all()


async def is_newest(session: AsyncSession, tick: TickRow) -> bool:
    """Returns whether no later tick of the job exists, by nominal time or else by start time."""
    due = func.coalesce(TickRow.nominal_time, TickRow.started_at)
    later = select(TickRow.tick).where(
        TickRow.job == tick.job, due > (tick.nominal_time or tick.started_at)
    )
    return (await session.execute(later.limit(1))).first() is None


async def prune(session: AsyncSession, job: str, tick: str, *, limit: int) -> int:
    """Deletes up to `limit` rows of a tick, and the tick itself once it has no more.

    Returns:
        The number of rows deleted; less than `limit` means that the tick is gone.
    """
    parameters = {"job": job, "tick": tick, "limit": limit}
    return int((await session.execute(_PRUNE, parameters)).scalar_one())


async def row_of_workflow(session: AsyncSession, workflow_id: str) -> LedgerRow | None:
    """Returns the ledger row of a fan-out's child, or None if the workflow is not one."""
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
        "build_ids": [entry.build_id for entry in entries],
        "deployments": [entry.deployment for entry in entries],
    }

"""The ledger: for each job, tick and tenant, what was planned and what became of it.

It, and not the workflow id, decides what has succeeded: the server forgets closed workflows after
the namespace's retention. So a row that says `succeeded` is never changed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.models import LedgerRow, LedgerState, TickRow, TickState


@dataclass(frozen=True)
class Entry:
    """What is now known of one tenant's part of a tick."""

    tenant_id: str
    state: LedgerState
    reason: str | None = None  # why it was skipped, failed or not started
    error_type: str | None = None  # the failure's type, as Temporal has it
    workflow_id: str | None = None
    run_id: str | None = None


_OPEN: Final = text("""
    insert into ticks (job, tick, nominal_time, workflow_id, run_id, state)
    values (:job, :tick, :nominal_time, :workflow_id, :run_id, 'running')
    on conflict (job, tick) do update
       set state = 'running',
           workflow_id = excluded.workflow_id,
           run_id = excluded.run_id,
           nominal_time = coalesce(ticks.nominal_time, excluded.nominal_time),
           started_at = now(),
           ended_at = null
""")

_CLOSE: Final = text("""
    update ticks
       set state = :state, ended_at = now()
     where job = :job and tick = :tick and workflow_id = :workflow_id
""")

# One statement for a page of tenants, whatever its size: seven arrays in, rows out.
_UNNEST: Final = """
    select *
      from unnest(
             cast(:tenants as text[]), cast(:states as text[]), cast(:reasons as text[]),
             cast(:error_types as text[]), cast(:workflow_ids as text[]), cast(:run_ids as text[])
           ) as given (tenant_id, state, reason, error_type, workflow_id, run_id)
"""

_PLAN: Final = text(f"""
    insert into ledger (job, tick, tenant_id, state, reason, error_type, workflow_id)
    select :job, :tick, tenant_id, state, reason, error_type, workflow_id
      from ({_UNNEST}) as given
    on conflict (job, tick, tenant_id) do update
       set state = excluded.state,
           reason = excluded.reason,
           error_type = excluded.error_type,
           workflow_id = excluded.workflow_id,
           run_id = null,
           planned_at = now(),
           started_at = null,
           ended_at = null
     where ledger.state not in ('succeeded', 'running')
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
""")

_PAGE: Final = text("""
    select tenant_id, state
      from ledger
     where job = :job
       and tick = :tick
       and tenant_id > coalesce(:after, '')
       and tenant_id <= :upto
     order by tenant_id
     limit :limit
""")

_ABANDON: Final = text("""
    update ledger
       set state = 'not_started', reason = :reason, ended_at = now()
     where job = :job
       and tick = :tick
       and state = 'planned'
       and exists (
             select from ticks
              where ticks.job = ledger.job
                and ticks.tick = ledger.tick
                and ticks.workflow_id = :workflow_id
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
    session: AsyncSession, job: str, tick: str, state: TickState, *, workflow_id: str
) -> None:
    """Notes how a fan-out ended; nothing where a later one has taken the tick over."""
    given = {"job": job, "tick": tick, "state": state.value, "workflow_id": workflow_id}
    await session.execute(_CLOSE, given)


async def plan(session: AsyncSession, job: str, tick: str, entries: Sequence[Entry]) -> None:
    """Writes `planned` and `skipped` entries over what neither has succeeded nor is running."""
    await session.execute(_PLAN, _arrays(job, tick, entries))


async def record(session: AsyncSession, job: str, tick: str, entries: Sequence[Entry]) -> None:
    """Writes what became of tenants; each tenant once in `entries`."""
    await session.execute(_RECORD, _arrays(job, tick, entries))


async def page(
    session: AsyncSession, job: str, tick: str, *, after: str | None, upto: str, limit: int
) -> list[tuple[str, LedgerState]]:
    """The next tenants of a tick in order, with their states: behind `after`, up to `upto`."""
    given = {"job": job, "tick": tick, "after": after, "upto": upto, "limit": limit}
    rows = await session.execute(_PAGE, given)
    return [(row.tenant_id, LedgerState(row.state)) for row in rows]


async def abandon(
    session: AsyncSession, job: str, tick: str, reason: str, *, workflow_id: str
) -> None:
    """Notes that what was still planned is not started, unless a later fan-out has the tick."""
    given = {"job": job, "tick": tick, "reason": reason, "workflow_id": workflow_id}
    await session.execute(_ABANDON, given)


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
    }

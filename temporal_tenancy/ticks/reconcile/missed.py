"""Who was missed: ticks that never began, and tenants who have not had what they may have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from temporalio.client import Client

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.ledger import NeverBegun
from temporal_tenancy.control_plane.tables import LedgerRow, LedgerState, TickRow, TickState
from temporal_tenancy.core.directory import Tenant, TenantStatus, current_directory, pages
from temporal_tenancy.core.due_times import due_of_key, instant, zone_of
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.tenant_state import refusal
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.ticks.fan_out.children import is_running
from temporal_tenancy.ticks.fan_out.planning import is_asked_for, was_there
from temporal_tenancy.ticks.reconcile.due_ticks import DueTick, due_ticks
from temporal_tenancy.ticks.reconcile.settlement import rows_in_doubt, tenants_of


@dataclass(frozen=True)
class Missed:
    """A tenant that may run now, and has not had a tick's run."""

    tenant_id: str
    state: LedgerState | None  # None: no fan-out ever planned it
    reason: str | None


async def note_missed_ticks(client: Client, now: datetime) -> Sequence[DueTick]:
    """Writes the ticks that were due and never began into the ledger; returns the new ones."""
    due = [tick async for tick in due_ticks(client, now)]
    async with platform_session("read the ticks that are known") as session:
        known = await ledger.known_ticks(session, {each.job.name for each in due})
    new = [
        each
        for each in due
        if (each.job.name, each.tick) not in known and not await _is_about_to_begin(client, each)
    ]
    ticks = [NeverBegun(each.job.name, each.tick, each.nominal_time, _why(each)) for each in new]
    async with platform_session("note the ticks that never began") as session:
        noted = await ledger.note_missed(session, ticks)
    return [each for each in new if (each.job.name, each.tick) in noted]


async def _is_about_to_begin(client: Client, due: DueTick) -> bool:
    """Whether a tick's fan-out runs and only waits for a worker, or there is nobody to be for."""
    if due.workflow_id is None:
        return not await current_directory().page(limit=1)
    return await is_running(client, due.workflow_id)


async def missed_tenants(
    job: Job,
    tick: TickRow,
    *,
    statuses: Collection[TenantStatus] | None = None,
    local_cron: str | None,
    now: datetime,
) -> Sequence[Missed]:
    """The tenants of a settled tick that have not succeeded, are not under way, and may run now.

    `statuses` are those that the job's schedule is for; None: all but deleted tenants. `local_cron`
    is the line of a tenant-local job: then those whose local time has come without any fan-out
    planning them are missed too; and so is, of any job, whom a fan-out did not come to plan.
    """
    if tick.state == TickState.MISSED:
        return [
            Missed(tenant.id, None, tick.reason)
            async for page in pages(current_directory(), statuses=statuses)
            for tenant in page
            if refusal(tenant, job) is None and _was_due(tenant, job, tick, local_cron, now)
        ]
    found = [
        Missed(row.tenant_id, LedgerState(row.state), _reason(row))
        async for row, tenant in _rows(job, tick)
        if is_asked_for(tenant, statuses) and refusal(tenant, job) is None
    ]
    if local_cron is not None or planning_broke_off(tick):
        found += [each async for each in _unplanned(job, tick, statuses, local_cron, now)]
    return sorted(found, key=lambda each: each.tenant_id)


def planning_broke_off(tick: TickRow) -> bool:
    """Whether a tick's fan-out ended before every tenant had a row."""
    return tick.planned_at is None and tick.state != TickState.RUNNING


async def unplanned_ticks(
    job: Job,
    ticks: Sequence[TickRow],
    *,
    statuses: Collection[TenantStatus] | None = None,
    local_cron: str,
    now: datetime,
) -> Sequence[TickRow]:
    """Those of a tenant-local job's ticks in which a tenant was missed that none of them planned.

    Such a tick looks finished: all whom it was for may have succeeded. The tenants are read once
    for all ticks.
    """
    left = {tick.tick: tick for tick in ticks}
    found = set()
    async for page in pages(current_directory(), statuses=statuses):
        tenants = {tenant.id: tenant for tenant in page if refusal(tenant, job) is None}
        async with platform_session("read who was never planned") as session:
            pairs = await ledger.without_rows(session, job.name, sorted(left), sorted(tenants))
        for tick, tenant_id in pairs:
            if tick in left and _was_due(tenants[tenant_id], job, left[tick], local_cron, now):
                found.add(tick)
                del left[tick]
        if not left:
            break
    return [tick for tick in ticks if tick.tick in found]


async def _rows(job: Job, tick: TickRow) -> AsyncIterator[tuple[LedgerRow, Tenant]]:
    async for rows in rows_in_doubt(job, tick.tick):
        tenants = await tenants_of(rows)
        for row in rows:
            # A settled row that says so has a run that goes on, or a fan-out that will start it.
            if row.state in (LedgerState.PLANNED, LedgerState.RUNNING):
                continue
            if row.tenant_id in tenants:
                yield row, tenants[row.tenant_id]


async def _unplanned(
    job: Job,
    tick: TickRow,
    statuses: Collection[TenantStatus] | None,
    local_cron: str | None,
    now: datetime,
) -> AsyncIterator[Missed]:
    why = "no fan-out planned it when its local time came."
    if local_cron is None:
        why = "its fan-out ended before this tenant was planned."
    async for page in pages(current_directory(), statuses=statuses):
        known = await _known(job, tick, [tenant.id for tenant in page])
        for tenant in page:
            if (
                tenant.id not in known
                and refusal(tenant, job) is None
                and _was_due(tenant, job, tick, local_cron, now)
            ):
                yield Missed(tenant.id, None, why)


async def _known(job: Job, tick: TickRow, tenant_ids: Sequence[str]) -> Collection[str]:
    async with platform_session("read who a tick was for") as session:
        return await ledger.known(session, job.name, tick.tick, tenant_ids)


def _was_due(
    tenant: Tenant, job: Job, tick: TickRow, local_cron: str | None, now: datetime
) -> bool:
    if local_cron is None or job.period is None:
        return True
    local = due_of_key(local_cron, job.period, tick.tick)
    if local is None:
        return False
    try:
        due = instant(local, zone_of(tenant.time_zone))
    except TenancyError:
        return True  # and the run that catches up says what is wrong with it
    return due <= now and was_there(tenant, due)


def _reason(row: LedgerRow) -> str | None:
    # What it was skipped for no longer holds, or it would not be missed.
    return f"was skipped: {row.reason}" if row.state == LedgerState.SKIPPED else row.reason


def _why(due: DueTick) -> str:
    if due.paused is not None:
        note = f" ({due.paused.rstrip('.')})" if due.paused else ""
        return f"never began: its schedule is paused{note}."
    return (
        "never began: the server was away for longer than the schedule's catch-up window, or the "
        "schedule was paused."
    )

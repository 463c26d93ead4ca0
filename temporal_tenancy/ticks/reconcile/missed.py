"""Finds what was missed: ticks that never began, and tenants without their run of a tick."""

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
from temporal_tenancy.ticks.reconcile._due_ticks import DueTick, due_ticks
from temporal_tenancy.ticks.reconcile.settlement import rows_in_doubt, tenants_of


@dataclass(frozen=True)
class Missed:
    """A tenant that has no successful run of a tick although it may run now."""

    tenant_id: str
    state: LedgerState | None  # None: no fan-out planned the tenant
    reason: str | None


async def note_missed_ticks(client: Client, now: datetime) -> Sequence[DueTick]:
    """Records in the ledger the ticks that were due and never began.

    Args:
        client: of the namespace that has the schedules.
        now: aware.

    Returns:
        The ticks that were not recorded before.

    Raises:
        RPCError: the server does not answer.
    """
    due = [tick async for tick in due_ticks(client, now)]
    async with platform_session("read the ticks that are known") as session:
        known = await ledger.known_ticks(session, {tick.job.name for tick in due})
    new = [
        tick
        for tick in due
        if (tick.job.name, tick.tick) not in known and not await _is_about_to_begin(client, tick)
    ]
    ticks = [NeverBegun(tick.job.name, tick.tick, tick.nominal_time, _why(tick)) for tick in new]
    async with platform_session("record the ticks that never began") as session:
        noted = await ledger.note_missed(session, ticks)
    return [tick for tick in new if (tick.job.name, tick.tick) in noted]


async def _is_about_to_begin(client: Client, due: DueTick) -> bool:
    """Whether a tick's fan-out waits for a worker; if tenant-local, whether no tenant exists."""
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
    """Returns the tenants that were missed in a settled tick, by id.

    These have not succeeded, are not planned or running, and may run now. A tenant that no fan-out
    planned counts too, if the planning was interrupted or, for a tenant-local job, if the tenant's
    local time has passed.

    Args:
        job: of the tick.
        tick: the tick, after `Settlement.settle`.
        statuses: of the tenants that the job's schedule runs for; None: all but deleted.
        local_cron: the cron line of a tenant-local job, else None.
        now: aware.
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
        found += [missed async for missed in _unplanned(job, tick, statuses, local_cron, now)]
    return sorted(found, key=lambda missed: missed.tenant_id)


def planning_broke_off(tick: TickRow) -> bool:
    """Whether a tick's fan-outs ended before every tenant had a row.

    They ended early, or were for tenants with certain statuses only (`FanOutInput.is_part`).
    """
    return tick.planned_at is None and tick.state != TickState.RUNNING


async def unplanned_ticks(
    job: Job,
    ticks: Sequence[TickRow],
    *,
    statuses: Collection[TenantStatus] | None = None,
    local_cron: str,
    now: datetime,
) -> Sequence[TickRow]:
    """Returns the ticks of a tenant-local job that lack a row for a tenant that was due.

    Such a tick may look finished, because all planned tenants have succeeded. The tenants are read
    once for all ticks.

    Args:
        job: a tenant-local job.
        ticks: the ticks to look at.
        statuses: of the tenants that the job's schedule runs for; None: all but deleted.
        local_cron: the job's cron line.
        now: aware.
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
            # In a settled tick, this row has a run under way or a fan-out that will start it.
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
        why = "no fan-out planned it: the last one ended early, or was for other statuses only."
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
        return True  # unknown time zone: the run that catches up reports it
    return due <= now and was_there(tenant, due)


def _reason(row: LedgerRow) -> str | None:
    # The reason for skipping no longer holds, or the tenant would not count as missed.
    return f"was skipped: {row.reason}" if row.state == LedgerState.SKIPPED else row.reason


def _why(due: DueTick) -> str:
    if due.paused is not None:
        note = f" ({due.paused.rstrip('.')})" if due.paused else ""
        return f"never began: its schedule is paused{note}."
    return (
        "never began: the server was unavailable for longer than the schedule's catch-up window, "
        "or the schedule was paused."
    )

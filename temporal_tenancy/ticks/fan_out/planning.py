"""Which tenants a fan-out is for, and when the turn of each is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.ledger import Entry
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.cron import read_cron
from temporal_tenancy.core.directory import Tenant, TenantStatus, current_directory, pages
from temporal_tenancy.core.due_times import due_between, due_of_key, instant, spread_offset, zone_of
from temporal_tenancy.core.errors import InvalidPayload, TenancyError
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.periods import Period
from temporal_tenancy.core.tenant_state import refusal
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.ticks.fan_out.payloads import FanOutInput

LOCAL_STEP: Final = timedelta(minutes=15)
"""How often a tenant-local job looks for who is due next. No zone's time differs by less."""


@dataclass(frozen=True)
class TickTurns:
    """A tick, and when the turn of each tenant in it is."""

    tick: str
    due_at: datetime  # where the time is the same for all
    spread: timedelta = timedelta()
    zones: Mapping[str, datetime] | None = None  # only tenants in these, each at its time
    local: datetime | None = None  # naive: at this time on each tenant's wall, where it has been
    over: datetime | None = None  # naive: not before this time on each tenant's wall

    def due(self, tenant: Tenant, job: Job, *, now: datetime) -> datetime | None:
        """When the tenant's turn is; None: not yet. Raises `TimeZoneUnknown`."""
        due: datetime | None = self.due_at
        if self.zones is not None:
            due = self.zones.get(tenant.time_zone)
        elif self.local is not None:
            due = instant(self.local, zone_of(tenant.time_zone))
            due = due if due <= now else None
        elif self.over is not None:
            due = max(self.due_at, instant(self.over, zone_of(tenant.time_zone)))
        return None if due is None else due + spread_offset(tenant.id, job.name, self.spread)


def tick_of(job: Job, nominal: datetime) -> str:
    """The tick that is due at `nominal`: the job's period before it, or the minute itself."""
    nominal = nominal.astimezone(UTC)
    if job.period is not None:
        return job.period.key_before(nominal)
    return nominal.strftime("%Y-%m-%dT%H:%MZ")


def period_end(job: Job, tick: str) -> datetime | None:
    """The time (naive) at which the period that a tick is about is over; None: it has none."""
    return job.period.due_between(tick)[0] if job.period else None


def turns(
    job: Job, request: FanOutInput, nominal: datetime | None, now: datetime
) -> Sequence[TickTurns]:
    """The ticks that a fan-out serves: one, unless it is for those whose local time it is.

    `nominal` is the time that its schedule meant, `now` when it began (both aware). A period ends
    later in the west: where the tenant is, it has to be over before its turn comes. Started by
    hand, also through its schedule, it spreads nothing, and is for everyone who is due by now.

    Raises `InvalidPayload` where `request.tick` is no period of the job's, or no run about it is
    ever due.
    """
    due_at = nominal or now
    if job.period is not None and request.tick is not None:
        try:
            job.period.checked(request.tick)
        except ValueError as error:
            raise InvalidPayload(
                f"{job.name} works on a {job.period}, and {request.tick!r} names none: {error}."
            ) from None
    if not request.local_time:
        tick = request.tick or tick_of(job, due_at)
        meant = nominal is not None and request.cron and read_cron(request.cron).matches(nominal)
        over = period_end(job, tick) if nominal is not None and request.tick is None else None
        return [TickTurns(tick, due_at, request.spread if meant else timedelta(), over=over)]
    cron, period = _local(job, request)
    if request.tick is None and nominal is not None and _is_step(nominal):
        found = due_between(cron, period, nominal, nominal + LOCAL_STEP)
        return [
            TickTurns(tick, due_at, request.spread, zones=found[tick]) for tick in sorted(found)
        ]
    tick = request.tick or tick_of(job, due_at)
    local = due_of_key(cron, period, tick)
    if local is None:
        raise InvalidPayload(f'no {job.name} about {tick} is ever due by "{cron}".')
    return [TickTurns(tick, due_at, local=local)]


async def entries(
    job: Job, request: FanOutInput, turns: TickTurns, *, now: datetime, planned_by: str
) -> AsyncIterator[Sequence[Entry]]:
    """The tenants of a tick, by pages, planned or skipped with the reason.

    `planned_by` is the workflow id of the fan-out that is planned.
    """
    time_zones = None if turns.zones is None else sorted(turns.zones)
    async for page in pages(current_directory(), statuses=request.statuses, time_zones=time_zones):
        known = None
        if request.missed:
            # Whom another fan-out is going to start is not missed: it keeps its turn.
            known, waiting = await _known(job, turns.tick, page, planned_by)
            page = [tenant for tenant in page if tenant.id not in waiting]
        yield [
            entry
            for tenant in page
            if (entry := _entry(job, tenant, turns, now=now, known=known)) is not None
        ]


def planned(job: Job, tenant: Tenant, tick: str, due_at: datetime) -> Entry:
    """A tenant's entry: planned, or skipped for the reason why it may not run now."""
    try:
        workflow_id = str(WorkflowId(tenant.id, job.name, tick))
        if job.period is not None:  # periods are in the tenant's time zone
            zone_of(tenant.time_zone)
    except TenancyError as error:  # too long an id or no such zone, for this tenant alone
        return skipped(tenant.id, error, due_at)
    refused = refusal(tenant, job)
    if refused is not None:
        return skipped(tenant.id, refused, due_at)
    return Entry(tenant.id, LedgerState.PLANNED, workflow_id=workflow_id, due_at=due_at)


def skipped(tenant_id: str, why: TenancyError, due_at: datetime) -> Entry:
    """The entry of a tenant that is not to run."""
    return Entry(
        tenant_id,
        LedgerState.SKIPPED,
        reason=why.sentence,
        error_type=why.type,
        due_at=due_at,
    )


def is_asked_for(tenant: Tenant, statuses: Collection[TenantStatus] | None) -> bool:
    """Whether a tick for tenants of these statuses (None: all but deleted ones) is for the tenant.

    As it is now: it may have changed since it was planned.
    """
    if statuses is None:
        return tenant.status is not TenantStatus.DELETED
    return tenant.status in statuses


def was_there(tenant: Tenant, due: datetime) -> bool:
    """Whether the tenant was what it is now when something was due, as far as can be told."""
    return tenant.status_since <= due


def _entry(
    job: Job, tenant: Tenant, turns: TickTurns, *, now: datetime, known: frozenset[str] | None
) -> Entry | None:
    try:
        due = turns.due(tenant, job, now=now)
    except TenancyError as error:
        return skipped(tenant.id, error, now)
    if due is None:
        return None
    # Planned by no fan-out: missed if the tenant's local time had come, else it came later itself.
    unplanned = known is not None and tenant.id not in known
    if unplanned and (turns.local is None or not was_there(tenant, due)):
        return None
    return planned(job, tenant, turns.tick, due)


async def _known(
    job: Job, tick: str, page: Sequence[Tenant], planned_by: str
) -> tuple[frozenset[str], frozenset[str]]:
    """Those of a page that the tick was for, and those that another fan-out will start."""
    ids = [tenant.id for tenant in page]
    async with platform_session("read who a tick was for") as session:
        return (
            await ledger.known(session, job.name, tick, ids),
            await ledger.planned_by_others(session, job.name, tick, ids, planned_by=planned_by),
        )


def _local(job: Job, request: FanOutInput) -> tuple[str, Period]:
    if request.cron is None or job.period is None:
        raise InvalidPayload(
            f"{job.name} cannot run at the tenants' local time: that takes a cron line, and a job "
            "that is about a period."
        )
    return request.cron, job.period


def _is_step(nominal: datetime) -> bool:
    """Whether a schedule means such a time; a manual trigger is somewhere in between."""
    return nominal.timestamp() % LOCAL_STEP.total_seconds() == 0

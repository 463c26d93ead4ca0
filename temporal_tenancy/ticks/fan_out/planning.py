"""Plans a fan-out: which tenants it runs for, and when each has its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
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
"""How often a tenant-local job looks for tenants that are due.

UTC offsets of time zones are multiples of it.
"""


@dataclass(frozen=True)
class TickTurns:
    """A tick, and when each of its tenants has its turn."""

    tick: str
    due_at: datetime  # aware; for tenants without another time below
    spread: timedelta = timedelta()
    zones: Mapping[str, datetime] | None = None  # aware, by zone; tenants in others are left out
    local: datetime | None = None  # naive: due at this local time, if it has passed
    over: datetime | None = None  # naive: not due before this local time

    def due(self, tenant: Tenant, job: Job, *, now: datetime) -> datetime | None:
        """Returns when the tenant has its turn (aware), or None if it is not due in this fan-out.

        Raises:
            TimeZoneUnknown: the tenant's time zone does not exist.
        """
        due: datetime | None = self.due_at
        if self.zones is not None:
            due = self.zones.get(tenant.time_zone)
        elif self.local is not None:
            due = instant(self.local, zone_of(tenant.time_zone))
            due = due if due <= now else None
        elif self.over is not None:
            due = max(self.due_at, instant(self.over, zone_of(tenant.time_zone)))
        return None if due is None else due + spread_offset(tenant.id, job.name, self.spread)


def tick_of(job: Job, nominal: datetime, zones: Collection[str] = ()) -> str:
    """Returns the tick that is due at `nominal`.

    For a job with a period it is the last period that is over then in UTC (`2013-04` on
    2013-05-01), or in all of `zones`; else the minute in UTC (`2013-05-01T06:00Z`).

    Args:
        job: a tenant job.
        nominal: aware.
        zones: IANA names of the tenants' time zones; without any, the period is one in UTC.

    Raises:
        TimeZoneUnknown: one of `zones` is no such name.
    """
    if job.period is not None:
        clocks: Iterable[tzinfo] = [zone_of(name) for name in zones] or [UTC]
        # The clock that is furthest behind; keys sort by time.
        return min(job.period.key_before(nominal.astimezone(clock)) for clock in clocks)
    nominal = nominal.astimezone(UTC)
    return nominal.strftime("%Y-%m-%dT%H:%MZ")


def period_end(job: Job, tick: str) -> datetime | None:
    """Returns the local time (naive) at which a tick's period is over; None without a period."""
    return job.period.due_between(tick)[0] if job.period else None


def turns(
    job: Job, request: FanOutInput, nominal: datetime | None, now: datetime
) -> Sequence[TickTurns]:
    """Returns the ticks that a fan-out serves.

    There is one, unless a schedule of a tenant-local job started the fan-out: then there is one for
    each local date that is due now, possibly none. A period ends later in the west, so a tenant's
    turn comes only after the period is over in its time zone. A fan-out that a person started or
    triggered does not spread its starts, and serves every tenant that is due by now.

    Args:
        job: the tenant job.
        request: the fan-out's input.
        nominal: the schedule's nominal time (aware); None if no schedule started the fan-out.
        now: when the fan-out started (aware).

    Raises:
        InvalidPayload: `request.tick` is not a period of the job, or the schedule never runs the
            job for it.
    """
    due_at = nominal or now
    if job.period is not None and request.tick is not None:
        try:
            job.period.checked(request.tick)
        except ValueError as error:
            raise InvalidPayload(
                f"{job.name} works on a {job.period}, and {request.tick!r} is not one: {error}."
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
        raise InvalidPayload(f'the schedule "{cron}" never runs {job.name} for {tick}.')
    return [TickTurns(tick, due_at, local=local)]


async def entries(
    job: Job, request: FanOutInput, turns: TickTurns, *, now: datetime, planned_by: str
) -> AsyncIterator[Sequence[Entry]]:
    """Yields a tick's tenants page by page, each planned or skipped with the reason.

    Args:
        job: the tenant job.
        request: the fan-out's input.
        turns: the tick, from `turns()`.
        now: when the fan-out started (aware).
        planned_by: the workflow id of the fan-out.
    """
    time_zones = None if turns.zones is None else sorted(turns.zones)
    async for page in pages(current_directory(), statuses=request.statuses, time_zones=time_zones):
        known = None
        if request.missed:
            # A tenant that another fan-out will start does not count as missed.
            known, waiting = await _known(job, turns.tick, page, planned_by)
            page = [tenant for tenant in page if tenant.id not in waiting]
        yield [
            entry
            for tenant in page
            if (entry := _entry(job, tenant, turns, now=now, known=known)) is not None
        ]


def planned(job: Job, tenant: Tenant, tick: str, due_at: datetime) -> Entry:
    """Returns a tenant's ledger entry: planned, or skipped with the reason it may not run now."""
    try:
        workflow_id = str(WorkflowId(tenant.id, job.name, tick))
        if job.period is not None:  # periods are in the tenant's time zone
            zone_of(tenant.time_zone)
    except TenancyError as error:  # an id that is too long or an unknown zone, of this tenant only
        return skipped(tenant.id, error, due_at)
    refused = refusal(tenant, job)
    if refused is not None:
        return skipped(tenant.id, refused, due_at)
    return Entry(tenant.id, LedgerState.PLANNED, workflow_id=workflow_id, due_at=due_at)


def skipped(tenant_id: str, why: TenancyError, due_at: datetime) -> Entry:
    """Returns the ledger entry of a tenant that is skipped."""
    return Entry(
        tenant_id,
        LedgerState.SKIPPED,
        reason=why.sentence,
        error_type=why.type,
        due_at=due_at,
    )


def is_asked_for(tenant: Tenant, statuses: Collection[TenantStatus] | None) -> bool:
    """Whether the tenant's current status is one of `statuses` (None: all but deleted).

    The status may have changed since the tenant was planned.
    """
    if statuses is None:
        return tenant.status is not TenantStatus.DELETED
    return tenant.status in statuses


def was_there(tenant: Tenant, due: datetime) -> bool:
    """Whether the tenant already had its current status at `due` (aware).

    Only the time of the last change of status is known.
    """
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
    # No fan-out planned this tenant. It was missed if it existed when its local time came;
    # otherwise it was added, or changed its status, later.
    unplanned = known is not None and tenant.id not in known
    if unplanned and (turns.local is None or not was_there(tenant, due)):
        return None
    return planned(job, tenant, turns.tick, due)


async def _known(
    job: Job, tick: str, page: Sequence[Tenant], planned_by: str
) -> tuple[frozenset[str], frozenset[str]]:
    """Returns which tenants of a page have a row, and which another fan-out will start."""
    ids = [tenant.id for tenant in page]
    async with platform_session("read who a tick was for") as session:
        return (
            await ledger.known(session, job.name, tick, ids),
            await ledger.planned_by_others(session, job.name, tick, ids, planned_by=planned_by),
        )


def _local(job: Job, request: FanOutInput) -> tuple[str, Period]:
    if request.cron is None or job.period is None:
        raise InvalidPayload(
            f"{job.name} cannot run at the tenants' local time, which requires a cron line and a "
            "job with a period."
        )
    return request.cron, job.period


def _is_step(nominal: datetime) -> bool:
    """Whether a nominal time is one of the schedule's; that of a manual trigger is not."""
    return nominal.timestamp() % LOCAL_STEP.total_seconds() == 0

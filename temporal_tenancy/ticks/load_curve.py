"""How many tenants' jobs schedules are going to start, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.due_times import instant, spread_offset, times, zone_of
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.instants import FURTHEST
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.tenant_state import refusal
from temporal_tenancy.ticks.fan_out.planning import period_end, tick_of
from temporal_tenancy.ticks.schedules import ScheduledJob

BUCKET: Final = timedelta(minutes=5)


@dataclass
class LoadCurve:
    """Starts of one job's children, by buckets of time."""

    job: str
    since: datetime  # aware
    buckets: int
    max_starts_per_second: float | None
    _starts: Counter[int] = field(default_factory=Counter)

    def add(self, moment: datetime) -> None:
        """Counts a start that is due at `moment`, if that is within the curve."""
        bucket = int((moment - self.since) / BUCKET)
        if moment >= self.since and bucket < self.buckets:
            self._starts[bucket] += 1

    def starts(self) -> Sequence[int]:
        """The starts in each bucket; what is over the cap is left for the next."""
        most = None
        if self.max_starts_per_second is not None:
            most = max(1, int(self.max_starts_per_second * BUCKET.total_seconds()))
        found, left = [], 0
        for bucket in range(self.buckets):
            waiting = self._starts[bucket] + left
            now = waiting if most is None else min(waiting, most)
            left = waiting - now
            found.append(now)
        return found


async def load_curves(
    schedules: Sequence[ScheduledJob],
    tenants: AsyncIterator[Tenant],
    *,
    since: datetime,
    length: timedelta,
) -> tuple[Sequence[LoadCurve], Sequence[LoadCurve]]:
    """The curve of each schedule of a tenant job: as declared, and without spread and cap.

    For the tenants as they are now: who may not run a job does not count.
    """
    until = since + length
    buckets = -(-length // BUCKET)
    jobs = {s.job: job for s in schedules if (job := registry.get_or_raise(s.job)).kind == "tenant"}
    declared = [s for s in schedules if s.job in jobs]
    plain = [replace(s, spread=timedelta(), max_starts_per_second=None) for s in declared]
    both = [
        [(s, LoadCurve(s.job, since, buckets, s.max_starts_per_second)) for s in each]
        for each in (declared, plain)
    ]
    due = _DueTimes(since, until)
    async for tenant in tenants:
        for curves in both:
            for scheduled, curve in curves:
                if _runs(jobs[scheduled.job], scheduled.statuses, tenant):
                    for moment in due.of(scheduled, tenant):
                        curve.add(moment)
    spread, unspread = ([curve for _, curve in curves] for curves in both)
    return spread, unspread


class _DueTimes:
    """When a schedule's runs are due for a tenant, worked out once for each time zone."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self._since, self._until = since.astimezone(UTC), until.astimezone(UTC)
        self._known: dict[tuple[str, str], Sequence[datetime]] = {}

    def of(self, scheduled: ScheduledJob, tenant: Tenant) -> Iterator[datetime]:
        key = (scheduled.job, tenant.time_zone)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = list(self._due(scheduled, tenant.time_zone))
        offset = spread_offset(tenant.id, scheduled.job, scheduled.spread)
        return (moment + offset for moment in known)

    def _due(self, scheduled: ScheduledJob, zone: str) -> Iterable[datetime]:
        try:
            where = zone_of(zone)
        except TenancyError:
            return ()  # such a tenant has no local time
        # What began before, and is spread or waits into the time that is looked at, belongs to it.
        since, until = self._since - scheduled.spread - FURTHEST, self._until
        if not scheduled.local_time:
            job = registry[scheduled.job]
            return (
                _not_before(job, moment, where) for moment in times(scheduled.cron, since, until)
            )
        local = (since.replace(tzinfo=None), until.replace(tzinfo=None) + FURTHEST)
        return (instant(moment, where) for moment in times(scheduled.cron, *local))


def _not_before(job: Job, nominal: datetime, zone: ZoneInfo) -> datetime:
    over = period_end(job, tick_of(job, nominal))
    return nominal if over is None else max(nominal, instant(over, zone))


def _runs(job: Job, statuses: Sequence[TenantStatus] | None, tenant: Tenant) -> bool:
    if statuses is not None and tenant.status not in statuses:
        return False
    return refusal(tenant, job) is None


def total(curves: Sequence[LoadCurve]) -> Sequence[int]:
    """The starts of all curves together, in each bucket."""
    return [sum(each) for each in zip(*(curve.starts() for curve in curves), strict=True)]


def peaks(curves: Sequence[LoadCurve]) -> Mapping[str, int]:
    """The largest bucket of each job."""
    return {curve.job: max(curve.starts(), default=0) for curve in curves}

"""Load curves: how many tenants' jobs schedules will start, and when."""

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
    """The starts of one job's children, in buckets of five minutes."""

    job: str
    since: datetime  # aware; start of the first bucket
    buckets: int
    max_starts_per_second: float | None  # None: no limit
    _starts: Counter[int] = field(default_factory=Counter)

    def add(self, moment: datetime) -> None:
        """Counts a start due at `moment` (aware); ignores one outside the curve."""
        bucket = int((moment - self.since) / BUCKET)
        if moment >= self.since and bucket < self.buckets:
            self._starts[bucket] += 1

    def starts(self) -> Sequence[int]:
        """Returns the starts in each bucket; those above the limit move to the next bucket."""
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
    """Computes the curves of all schedules of tenant jobs.

    It uses the tenants' current state: a tenant that may not run a job does not count.

    Args:
        schedules: the declarations; those of platform jobs are ignored.
        tenants: read once.
        since: aware; start of the curves.
        length: of the curves, rounded up to five minutes.

    Returns:
        One curve for each schedule as declared, and one for each without spread and limit.

    Raises:
        UnknownJob: a schedule's job is not registered.
        CronInvalid: a schedule's cron line is malformed.
    """
    until = since + length
    buckets = -(-length // BUCKET)
    jobs = {s.job: job for s in schedules if (job := registry.get_or_raise(s.job)).kind == "tenant"}
    declared = [s for s in schedules if s.job in jobs]
    unlimited = [replace(s, spread=timedelta(), max_starts_per_second=None) for s in declared]
    both = [
        [(s, LoadCurve(s.job, since, buckets, s.max_starts_per_second)) for s in variant]
        for variant in (declared, unlimited)
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
    """Computes when a schedule's runs are due for a tenant, once for each time zone."""

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
            return ()  # unknown time zone: the tenant has no local time
        # Earlier runs count too if their spread or waiting reaches into the curve.
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
    """Returns the starts of all curves together, in each bucket.

    Raises:
        ValueError: the curves differ in length.
    """
    return [sum(bucket) for bucket in zip(*(curve.starts() for curve in curves), strict=True)]


def peaks(curves: Sequence[LoadCurve]) -> Mapping[str, int]:
    """Returns the most starts in one bucket, by job."""
    return {curve.job: max(curve.starts(), default=0) for curve in curves}

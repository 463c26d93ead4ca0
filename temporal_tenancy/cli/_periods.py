"""Refuses jobs of a period that is not over: they fail, or count what is not yet final."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.core.directory import Tenant, TenantDirectory, pages
from temporal_tenancy.core.display import quoted
from temporal_tenancy.core.due_times import EARLIEST, TimeZoneUnknown, instant, zone_names, zone_of
from temporal_tenancy.core.errors import InvalidPayload, TenancyError
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.tenant_state import refusal
from temporal_tenancy.core.words import minute, number

if TYPE_CHECKING:
    from temporal_tenancy.ticks.fan_out import FanOutInput

LATEST: Final = timedelta(hours=12)
"""How long after UTC a date ends in the westernmost time zone (UTC-12)."""


class PeriodNotOver(TenancyError):
    """The job's period may still get events."""


def is_over_somewhere(job: Job, tick: str, now: datetime) -> bool:
    """Returns whether a tick can be due for some tenant; always, if the job has no period."""
    return job.period is None or tick <= job.period.key_before(now.astimezone(UTC) + EARLIEST)


def refuse_unfinished(
    job: Job, job_input: BaseModel, tenant: Tenant | None, *, at: datetime | None = None
) -> None:
    """Raises `PeriodNotOver` for a job that would start before its period is over.

    Args:
        job: the tenant job.
        job_input: its input, with the period.
        tenant: whose time zone counts; None, or one with an unknown zone, is refused elsewhere.
        at: when the job starts (aware), if not now.
    """
    if job.period is None or tenant is None:
        return
    end, now = _end(job, str(job.key_of(job_input)), tenant), datetime.now(UTC)
    if end is None or end <= max(at or now, now):
        return
    key, then = str(job.key_of(job_input)), f"{end:%Y-%m-%dT%H:%M:%SZ}"
    for_then = ("enqueue", job.name, "--tenant", tenant.id, "--key", key, "--at", then)
    raise PeriodNotOver(
        f"{key} is not over in {tenant.time_zone}. Run {job.name} after {minute(end)}; "
        f"{quoted_command(*for_then)} requests it for then."
    )


async def refuse_unfinished_tick(
    job: Job, request: FanOutInput, directory: TenantDirectory
) -> None:
    """Raises `PeriodNotOver` if a fan-out would start tenants whose period is not over.

    Raises `InvalidPayload` if its tick is no period. One at the tenants' local time leaves these
    tenants to a later fan-out, if the period is over for others.
    """
    tick, now = str(request.tick), datetime.now(UTC)
    if job.period is None:
        return
    try:
        job.period.checked(tick)
    except ValueError as error:
        raise InvalidPayload(f"{quoted(tick)} is no tick of {job.name}: {error}.") from None
    if not is_over_somewhere(job, tick, now):
        first, _ = job.period.due_between(tick)
        raise PeriodNotOver(f"{tick} is not over yet. Run {job.name} from {first:%Y-%m-%d} on.")
    if request.local_time or tick <= job.period.key_before(now - LATEST):
        return
    waiting, last = 0, now
    async for page in pages(directory, statuses=request.statuses):
        for tenant in page:
            end = _end(job, tick, tenant)
            if end is not None and end > now and refusal(tenant, job) is None:
                waiting, last = waiting + 1, max(last, end)
    if waiting:
        raise PeriodNotOver(
            f"{tick} is not over in the time zone of {number(waiting, 'tenant')}. Run {job.name} "
            f"after {minute(last)}."
        )


async def last_tick(
    job: Job, request: FanOutInput, directory: TenantDirectory, now: datetime
) -> str:
    """Returns the last tick that is over for every tenant that a fan-out would start now.

    Args:
        job: the tenant job.
        request: says for which tenants. One at the tenants' local time leaves those whose period
            is not over to a later fan-out, so only UTC counts.
        directory: of the tenants, whose time zones count.
        now: aware.
    """
    from temporal_tenancy.ticks.fan_out import tick_of

    if job.period is None or request.local_time:
        return tick_of(job, now)
    first, last = job.period.key_before(now - LATEST), job.period.key_before(now + EARLIEST)
    if first == last:
        return first  # in every time zone
    zones: set[str] = set()
    async for page in pages(directory, statuses=request.statuses):
        zones |= {tenant.time_zone for tenant in page if refusal(tenant, job) is None}
    return tick_of(job, now, zones & zone_names())  # another name is refused elsewhere


def _end(job: Job, key: str, tenant: Tenant) -> datetime | None:
    """Returns the first instant (aware) after a period; None if there is none."""
    if job.period is None:
        return None
    end, _ = job.period.due_between(key)
    try:
        return instant(end, zone_of(tenant.time_zone))
    except TimeZoneUnknown:
        return None

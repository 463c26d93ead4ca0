"""Retention: deletes usage that is older than the tenant's plan keeps it."""

from __future__ import annotations

from datetime import datetime, time
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel

from activities.deletion import Aging, Batches, delete_aged
from saas.database.models import UsageEvent
from temporal_tenancy import current_tenant_record, heartbeating, tenant_activity
from temporal_tenancy.core import days_from

USAGE: Final = Aging(UsageEvent, UsageEvent.time_hour, "usage.deleted")


class FindCutoff(BaseModel):
    """Input of `find_cutoff`."""

    at: AwareDatetime
    keep_days: int | None  # None: the plan's


class Cutoff(BaseModel):
    """The moment before which usage is deleted."""

    before: AwareDatetime | None  # None: everything is kept


class DeleteUsage(BaseModel):
    """Input of `delete_usage`: events before this moment are deleted."""

    before: AwareDatetime


@tenant_activity
@heartbeating()
async def find_cutoff(request: FindCutoff) -> Cutoff:
    """Returns the start of the first day to keep, in the tenant's time zone.

    That day is `keep_days` before the day of `at`.
    """
    tenant = current_tenant_record()
    days = tenant.plan.retention_days if request.keep_days is None else request.keep_days
    if days is None:
        return Cutoff(before=None)
    zone = ZoneInfo(tenant.time_zone)
    first = days_from(request.at.astimezone(zone), -days).date()
    return Cutoff(before=datetime.combine(first, time(), zone))


class Retention:
    """Deletes usage past the tenant's retention."""

    def __init__(self, batches: Batches | None = None) -> None:
        """`batches` is how many rows one transaction deletes."""
        self._batches = batches or Batches()

    @tenant_activity
    async def delete_usage(self, request: DeleteUsage) -> int:
        """Deletes usage events in batches; returns how many this run has deleted."""
        return await delete_aged(USAGE, request.before, self._batches)

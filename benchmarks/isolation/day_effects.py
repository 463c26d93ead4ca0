"""The activity of a job that reads and writes a tenant's days."""

from __future__ import annotations

import datetime as dt
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from saas.database.tables import DailyUsage
from temporal_tenancy import TenantInput, tenant_activity, tenant_session

DAY: Final = dt.date(2013, 4, 1)


class Counted(TenantInput):
    """Input of `count_day`."""


@tenant_activity
async def count_day(job: Counted) -> None:
    """Sums the tenant's days, and counts one more event of a day."""
    own = DailyUsage.tenant_id == job.tenant_id
    values = {"tenant_id": job.tenant_id, "day": DAY, "events": 1, "cancelled": 0}
    added = insert(DailyUsage).values(**values, distance=1, air_time=1)
    async with tenant_session() as session:
        await session.scalar(select(func.sum(DailyUsage.events)).where(own))
        await session.execute(
            added.on_conflict_do_update(
                index_elements=["tenant_id", "day"], set_={"events": DailyUsage.events + 1}
            )
        )

"""Usage for generated tenants: a month of flights, a different number per tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from dev.sample_data.airlines import Flight
from dev.sample_data.load import load_events
from temporal_tenancy.core.periods import month_bounds
from temporal_tenancy.postgres.database import Database


async def load_month(database: Database, tenants: Sequence[str], period: str) -> None:
    """Gives each tenant its flights of a month, written `YYYY-MM`."""
    for number, tenant in enumerate(tenants, start=1):
        await load_events(database, tenant, _flights(tenant, period, number))


def _flights(tenant: str, period: str, number: int) -> list[Flight]:
    first, after = month_bounds(period)
    noons = [_at(first + timedelta(days=day % 28), hour=16) for day in range(number)]
    # Still in the month in the tenants' time zones, but not in UTC.
    last = _at(after, hour=2)
    return [
        Flight(
            tenant_id=tenant,
            time_hour=time,
            carrier=tenant.upper(),
            flight=flight,
            origin="JFK",
            destination="LAX",
            tail_number=None,
            distance=100 + number,
            air_time=60 + number,
            departure_delay=None,
            cancelled=flight % 4 == 3,
        )
        for flight, time in enumerate([*noons, last])
    ]


def _at(day: date, *, hour: int) -> str:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC).isoformat()

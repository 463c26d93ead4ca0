"""Loads the airlines, and made-up tenants, into the control plane and the tenants' tables.

Existing rows are left unchanged.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

import psycopg
from sqlalchemy import exists, select, text
from sqlalchemy.dialects.postgresql import insert

from dev.sample_data.airlines import TIME_ZONE, Flight, airlines, flights
from saas.database.tables import UsageEvent
from temporal_tenancy import (
    Database,
    Isolation,
    SessionLimits,
    TenantScope,
    TenantStatus,
    enter,
    tenant_id,
    tenant_session,
    use_database,
)
from temporal_tenancy.control_plane import TenantExists, TenantRow
from temporal_tenancy.stores import FileConnectionSecrets, SignUp

PLAN: Final = "enterprise"  # every feature, and data kept without limit
MADE_UP_PLANS: Final = ("free", "standard", "enterprise")
# One transaction loads all of a tenant's events, even on a slow machine.
LOADING: Final = SessionLimits(
    statement=timedelta(minutes=10), idle=timedelta(minutes=2), transaction=timedelta(minutes=15)
)
MADE_UP_HOURS: Final = "2013-01-{day:02}T15:00:00Z"

# PostgreSQL refuses COPY into a table with row-level security. So the rows go through a temporary
# table, and the policy checks them as they move.
_STAGE: Final = "create temporary table staged_events (like usage_events) on commit drop"
_COPY: Final = """
    copy staged_events (
        tenant_id, time_hour, carrier, flight, origin, destination,
        tail_number, distance, air_time, departure_delay, cancelled
    ) from stdin
"""
_MOVE: Final = """
    with moved as (
        insert into usage_events (
            tenant_id, time_hour, carrier, flight, origin, destination,
            tail_number, distance, air_time, departure_delay, cancelled
        )
        select
            tenant_id, time_hour, carrier, flight, origin, destination,
            tail_number, distance, air_time, departure_delay, cancelled
        from staged_events
        on conflict do nothing
        returning 1
    )
    select count(*) from moved
"""


async def load_airlines(
    database: Database,
    secrets: FileConnectionSecrets | None = None,
    isolation_of: Mapping[str, Isolation] = MappingProxyType({}),
) -> dict[str, int]:
    """Adds the 16 airlines as tenants with their 336,776 flights.

    An airline that has events keeps those: all of an airline's flights are loaded in one
    transaction, so either all were loaded before, or none was. Returns the number of new events by
    tenant id.

    Args:
        database: also finds the stores of those that have their own.
        secrets: the connections of tenants' own databases.
        isolation_of: the airlines whose rows are in no shared tables, once they are added.
    """
    added = {airline.tenant_id: 0 for airline in airlines()}
    for airline in airlines():
        with suppress(TenantExists):
            await SignUp(database, secrets).add(
                airline.tenant_id,
                airline.name,
                plan=PLAN,
                time_zone=TIME_ZONE,
                isolation=isolation_of.get(airline.tenant_id, Isolation.SHARED),
            )
    missing = [tenant for tenant in added if not await _has_events(database, tenant)]
    if not missing:
        return added  # without reading the flights, which takes seconds
    by_tenant: defaultdict[str, list[Flight]] = defaultdict(list)
    for flight in flights():
        by_tenant[flight.tenant_id].append(flight)
    for tenant in missing:
        added[tenant] = await load_events(database, tenant, by_tenant[tenant])
    return added


async def _has_events(database: Database, tenant: str) -> bool:
    with use_database(database), enter(TenantScope(tenant_id(tenant))):
        async with tenant_session() as session:
            return bool(await session.scalar(select(exists().select_from(UsageEvent))))


async def make_up_tenants(database: Database, count: int, *, events: int = 0) -> list[str]:
    """Adds tenants `t00001` to `t{count}`, for load, each with `events` flights; returns their ids.

    Tenants cycle through the plans, so that all weights occur.
    """
    ids = [f"t{number:05}" for number in range(1, count + 1)]
    rows = [
        {
            "id": identifier,
            "name": f"Airline {identifier}",
            "status": TenantStatus.ACTIVE,
            "plan_id": plan,
            "time_zone": TIME_ZONE,
        }
        for identifier, plan in zip(ids, itertools.cycle(MADE_UP_PLANS), strict=False)
    ]
    async with database.platform_session("make up tenants") as session:
        await session.execute(insert(TenantRow).on_conflict_do_nothing(), rows)
    for identifier in ids if events else []:
        await load_events(database, identifier, _made_up_flights(identifier, events))
    return ids


async def load_events(database: Database, tenant: str, events: Iterable[Flight]) -> int:
    """Writes usage events of `tenant` in one transaction; returns the number of new ones."""
    with use_database(database), enter(TenantScope(tenant_id(tenant))):
        async with tenant_session(limits=LOADING) as session:
            await session.execute(text(_STAGE))
            connection = await (await session.connection()).get_raw_connection()
            driver = cast(psycopg.AsyncConnection, connection.driver_connection)
            async with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
                for event in events:
                    await copy.write_row(event)
            return int((await session.execute(text(_MOVE))).scalar_one())


def unbillable_flight(tenant: str, month: str = "2013-04") -> Flight:
    """Returns a flight with a negative distance, which fails the month's invoice."""
    return Flight(
        tenant_id=tenant,
        time_hour=f"{month}-15T12:00:00Z",
        carrier=tenant.upper(),
        flight=99_999,
        origin="LGA",
        destination="DEN",
        tail_number=None,
        distance=-1,
        air_time=None,
        departure_delay=None,
        cancelled=False,
    )


def _made_up_flights(tenant: str, count: int) -> Sequence[Flight]:
    return [
        Flight(
            tenant_id=tenant,
            time_hour=MADE_UP_HOURS.format(day=number % 28 + 1),
            carrier=tenant.upper(),
            flight=number,
            origin="JFK",
            destination="LAX",
            tail_number=None,
            distance=2475,
            air_time=330,
            departure_delay=0,
            cancelled=False,
        )
        for number in range(count)
    ]

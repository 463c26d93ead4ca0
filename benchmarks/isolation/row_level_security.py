"""What does row-level security add to a statement that filters by its tenant anyway?

The data is real: the 336,776 usage events of 16 airlines. Ours: the table `usage_events` as the
migrations create it, with its two policies. Peer: a copy without row-level security, with the same
columns, primary key and order of rows; both are vacuumed and analysed. There are two statements: a
page of 50 events from a random one on, and a month grouped by day, as analytics.aggregate counts
it.

The role `tenancy_tenant` sends both over one connection in one open transaction with
`app.tenant_id` set (so begin, commit and the setting are not measured), unprepared like all
statements of the library, and with a filter `tenant_id = ...`. A time covers sending the statement,
planning it and reading all its rows.

The arms alternate with each statement; each pair has the same tenant and month, and tenants are
drawn in proportion to their events. A round has 50 such pairs and takes the p50 of each arm. The
value is the median over rounds of ours divided by the peer's p50.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any, Final, NamedTuple

import psycopg

from activities.months import local_month
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.airlines import TIME_ZONE, Flight, flights
from dev.sample_data.load import load_events
from temporal_tenancy import Database
from temporal_tenancy.postgres import TENANT_ROLE, connect

NAME: Final = "row_level_security"
GOAL: Final = Goal("<=", 1.1)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
PAIRS: Final = 50  # statements per round and arm
SEED: Final = 2013
TABLES: Final = {Arm.OURS: "usage_events", Arm.PEER: "bench_plain_events"}

_PAGE: Final = """
    select *
      from {table}
     where tenant_id = %(tenant)s
       and (time_hour, carrier, flight) > (%(time)s, %(carrier)s, %(flight)s)
     order by time_hour, carrier, flight
     limit 50
"""
_MONTH_BY_DAY: Final = """
    select cast(time_hour at time zone %(time_zone)s as date) as day,
           count(*),
           count(*) filter (where cancelled),
           coalesce(sum(distance) filter (where not cancelled), 0),
           coalesce(sum(air_time), 0)
      from {table}
     where tenant_id = %(tenant)s
       and time_hour >= %(since)s
       and time_hour < %(until)s
     group by day
"""
STATEMENTS: Final = {"page": _PAGE, "month_by_day": _MONTH_BY_DAY}


class Place(NamedTuple):
    """The position in the data from which a statement reads."""

    tenant: str
    time: datetime
    carrier: str
    flight: int

    def parameters(self) -> dict[str, Any]:
        """Returns the parameters of both statements."""
        since, until = local_month(f"{self.time:%Y-%m}", TIME_ZONE)
        return {**self._asdict(), "time_zone": TIME_ZONE, "since": since, "until": until}


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures each statement; about half a minute in total."""
    urls = servers.new_database("row_level_security")
    places = await _load(urls)
    _copy(urls, sorted({place.tenant for place in places}))
    generator = random.Random(SEED)
    found = {name: Comparison() for name in STATEMENTS}
    with connect(urls.tenant) as connection:
        connection.prepare_threshold = None
        with connection.transaction():
            for name, statement in STATEMENTS.items():
                _round(connection, statement, generator.choices(places, k=PAIRS))
                for _ in range(rounds(40, full=200)):
                    chosen = generator.choices(places, k=PAIRS)
                    found[name].add(_round(connection, statement, chosen))
                tell(
                    f"{NAME}.{name}: with policies {median(found[name].ours):.0f}, "
                    f"without {median(found[name].peer):.0f} µs"
                )
    peer = "the same statement on the same rows without row-level security"
    return [
        Answer(f"{NAME}.{name}", peer, GOAL, "µs, p50 of a statement", comparison)
        for name, comparison in found.items()
    ]


async def _load(urls: DatabaseUrls) -> list[Place]:
    """Writes the airlines' events, and returns the position of each."""
    by_tenant: defaultdict[str, list[Flight]] = defaultdict(list)
    for flight in flights():
        by_tenant[flight.tenant_id].append(flight)
    database = Database(tenant_url=urls.tenant)
    try:
        for tenant, events in by_tenant.items():
            await load_events(database, tenant, events)
    finally:
        await database.dispose()
    return [
        Place(event.tenant_id, datetime.fromisoformat(event.time_hour), event.carrier, event.flight)
        for events in by_tenant.values()
        for event in events
    ]


def _copy(urls: DatabaseUrls, tenants: Sequence[str]) -> None:
    """Creates the table without row-level security, otherwise identical to the other."""
    ours, copy = TABLES[Arm.OURS], TABLES[Arm.PEER]
    with connect(urls.owner) as owner, connect(urls.tenant) as reader:
        owner.execute(f"create table {copy} (like {ours} including all)")
        owner.execute(f"grant select, insert on {copy} to {TENANT_ROLE}")
        # The policies apply to the owner too, so the tenant role copies the rows.
        for tenant in tenants:
            with reader.transaction():
                _set_tenant(reader, tenant)
                reader.execute(f"insert into {copy} select * from {ours} order by ctid")
        for table in (ours, copy):
            owner.execute(f"vacuum (analyze, freeze) {table}")


def _round(
    connection: psycopg.Connection[Any], statement: str, places: Sequence[Place]
) -> dict[Arm, float]:
    """Returns the p50 of each arm over `places`, in microseconds."""
    taken: dict[Arm, list[float]] = {arm: [] for arm in Arm}
    for place, order in zip(places, turns(len(places)), strict=True):
        _set_tenant(connection, place.tenant)
        for arm in order:
            query = statement.format(table=TABLES[arm]).encode()
            began = time.perf_counter()
            connection.execute(query, place.parameters()).fetchall()
            taken[arm].append((time.perf_counter() - began) * 1e6)
    return {arm: median(times) for arm, times in taken.items()}


def _set_tenant(connection: psycopg.Connection[Any], tenant: str) -> None:
    connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])

"""What does row-level security cost a statement that names its tenant anyway?

The data is real: the 336,776 usage events of 16 airlines. Ours is the table `usage_events` as the
migrations make it, under its two policies; the peer is a copy without row-level security: same
columns, primary key and order of rows, both vacuumed and analysed. The statements are two: a page
of 50 events from a random one on, and a month by day, as analytics.aggregate counts it.

Both are sent by the role `tenancy_tenant` over one connection in one open transaction with
`app.tenant_id` set (so begin, commit and the setting are not in the time), unprepared as the
library sends all, and name their tenant with `tenant_id = ...`. A time is that of sending the
statement and reading all its rows, planning included.

The arms take turns statement by statement, each pair with the same tenant and month, tenants in
proportion to their events. A round is 50 such pairs and takes the p50 of each arm. The value is
the median over rounds of ours by the peer's p50.
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
PAIRS: Final = 50  # statements a round and arm
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
    """Where in the data a statement reads."""

    tenant: str
    time: datetime
    carrier: str
    flight: int

    def parameters(self) -> dict[str, Any]:
        """What the statements take."""
        since, until = local_month(f"{self.time:%Y-%m}", TIME_ZONE)
        return {**self._asdict(), "time_zone": TIME_ZONE, "since": since, "until": until}


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question for each statement; about half a minute in all."""
    urls = servers.new_database("row_level_security")
    places = await _load(urls)
    _copy(urls, sorted({place.tenant for place in places}))
    chance = random.Random(SEED)
    found = {name: Comparison() for name in STATEMENTS}
    with connect(urls.tenant) as connection:
        connection.prepare_threshold = None
        with connection.transaction():
            for name, statement in STATEMENTS.items():
                _round(connection, statement, chance.choices(places, k=PAIRS))
                for _ in range(rounds(40, full=200)):
                    chosen = chance.choices(places, k=PAIRS)
                    found[name].add(_round(connection, statement, chosen))
                tell(
                    f"{NAME}.{name}: ours {median(found[name].ours):.0f}, "
                    f"plain {median(found[name].peer):.0f} µs"
                )
    peer = "the same statement on the same rows without row-level security"
    return [
        Answer(f"{NAME}.{name}", peer, GOAL, "µs, p50 of a statement", comparison)
        for name, comparison in found.items()
    ]


async def _load(urls: DatabaseUrls) -> list[Place]:
    """Writes the airlines' events, and returns the place of each."""
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
    """Makes the table without row-level security, as like the other as can be."""
    ours, plain = TABLES[Arm.OURS], TABLES[Arm.PEER]
    with connect(urls.owner) as owner, connect(urls.tenant) as reader:
        owner.execute(f"create table {plain} (like {ours} including all)")
        owner.execute(f"grant select, insert on {plain} to {TENANT_ROLE}")
        # The owner is held to the policies too: the rows are copied as their tenants.
        for tenant in tenants:
            with reader.transaction():
                _set_tenant(reader, tenant)
                reader.execute(f"insert into {plain} select * from {ours} order by ctid")
        for table in (ours, plain):
            owner.execute(f"vacuum (analyze, freeze) {table}")


def _round(
    connection: psycopg.Connection[Any], statement: str, places: Sequence[Place]
) -> dict[Arm, float]:
    """The p50 of each arm over `places`, in microseconds."""
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

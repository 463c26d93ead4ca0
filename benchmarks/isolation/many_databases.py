"""How many jobs does a process do in fifty databases, compared with one?

Ours: a worker does the jobs of 50 tenants by turns, each with a database of its own. Peer: another
one does the same jobs of the same tenants in one database. Both have at most 20 connections, so
with 50 databases most sessions close the connection that was idle longest, and open another one. A
job is a workflow with one activity, which reads a tenant's days, writes one and commits. A client
starts them, 20 at a time.

The number of connections is asked of PostgreSQL itself (`pg_stat_activity`) from beside, while the
jobs run; more than the cap is an error.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import psycopg
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.isolation.day_effects import count_day
from benchmarks.isolation.day_jobs import CountDay, CountInput
from benchmarks.shared.fan_outs import add_tenants
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.no_op import OUR_QUEUE
from benchmarks.shared.servers import Servers
from benchmarks.shared.store_tenants import Places, database_stores
from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy import Database, Store, TenantStatus

NAME: Final = "many_databases"
GOAL: Final = Goal(">=", 0.5)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
DATABASES: Final = 50
CAP: Final = 20  # connections, and jobs at once
JOBS: Final = 200  # in each arm of a round
SAMPLE: Final = 0.02  # seconds

_OPEN: Final = """
    select count(*) from pg_stat_activity
    where application_name = %s and usename = 'tenancy_tenant'
"""


class TooManyConnections(Exception):
    """PostgreSQL has counted more connections than the cap."""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about a minute."""
    urls = servers.new_database(NAME)
    tenants = [f"t{number}" for number in range(DATABASES)]
    stores: dict[Arm, Mapping[str, Store]] = {
        Arm.OURS: database_stores(servers, NAME, tenants),
        Arm.PEER: {},
    }
    control = Database(platform_url=urls.platform)
    try:
        await add_tenants(control, tenants, TenantStatus.ACTIVE)
    finally:
        await control.dispose()
    comparison, most = Comparison(), 0
    for number, order in enumerate(turns(rounds(3, full=12) + 1)):
        rates: dict[Arm, float] = {}
        for arm in order:
            async with _worked(servers, urls, stores[arm]) as client, _counted(urls) as counted:
                rates[arm] = await _rate(client, tenants, f"{arm}-{number}")
            if arm is Arm.OURS:
                most = max(most, *counted)
        if number:
            comparison.add(rates)
    if most > CAP:
        raise TooManyConnections(f"{most} connections were open, and {CAP} are the cap.")
    tell(f"{NAME}: at most {most} of {CAP} connections were open")
    peer = "the same jobs of the same tenants in one database"
    besides = {"most_connections": float(most), "cap": float(CAP)}
    return [Answer(NAME, peer, GOAL, "jobs/s", comparison, besides)]


@asynccontextmanager
async def _worked(
    servers: Servers, urls: DatabaseUrls, stores: Mapping[str, Store]
) -> AsyncIterator[Client]:
    """Runs a worker of the tenants in `stores`; yields a client for it."""
    database = Database(
        tenant_url=urls.tenant,
        platform_url=urls.platform,
        max_connections=CAP,
        stores=Places(stores),
        application_name=NAME,
    )
    try:
        client = await servers.our_client(database)
        worker = Worker(client, task_queue=OUR_QUEUE, workflows=[CountDay], activities=[count_day])
        async with worker:
            yield client
    finally:
        await database.dispose()


async def _rate(client: Client, tenants: Sequence[str], key: str) -> float:
    """Returns how many jobs end in a second."""
    jobs = enumerate(itertools.islice(itertools.cycle(tenants), JOBS))

    async def place() -> None:
        for number, tenant in jobs:
            await client.execute_workflow(
                CountDay.run,
                CountInput(tenant_id=tenant),
                id=f"{tenant}/bench.count_day/{key}-{number}",
                task_queue=OUR_QUEUE,
            )

    began = time.perf_counter()
    await asyncio.gather(*(place() for _ in range(CAP)))
    return JOBS / (time.perf_counter() - began)


@asynccontextmanager
async def _counted(urls: DatabaseUrls) -> AsyncIterator[list[int]]:
    """Counts the open connections of tenants' work on the server until the block ends."""
    counts = [0]
    url = urls.superuser.replace("+psycopg", "", 1)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def sample() -> None:
            while True:
                [row] = await (await connection.execute(_OPEN, [NAME])).fetchall()
                counts.append(row[0])
                await asyncio.sleep(SAMPLE)

        sampling = asyncio.create_task(sample())
        try:
            yield counts
        finally:
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling

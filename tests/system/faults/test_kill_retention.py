"""A worker is killed while it deletes: its successor continues, and the count is right."""

from __future__ import annotations

import asyncio
import signal

from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.connections import connect
from tests.fixtures.worker_process import StartWorker
from workflows.retention import EnforceRetention, EnforceRetentionInput

EVENTS = 200_000
_MAKE_UP = """
    insert into usage_events (
        tenant_id, time_hour, carrier, flight, origin, destination, distance, cancelled
    )
    select tenant, '2013-01-01T00:00Z', 'AC', number, 'JFK', 'LAX', 100, false
      from unnest(array['acme', 'globex']) as tenant, generate_series(1, %s) as number
"""


def left(urls: DatabaseUrls, tenant: str) -> int:
    with connect(urls.superuser) as everything:
        row = everything.execute(
            "select count(*) from usage_events where tenant_id = %s", [tenant]
        ).fetchone()
    return 0 if row is None else int(row[0])


async def a_batch_is_deleted(urls: DatabaseUrls) -> None:
    async with asyncio.timeout(60):
        while left(urls, "acme") == EVENTS:  # noqa: ASYNC110  # another process deletes them
            await asyncio.sleep(0.01)


async def test_a_killed_workers_successor_deletes_the_rest_and_counts_all(
    saas: Client, tenants: Tenants, database_urls: DatabaseUrls, start_worker: StartWorker
) -> None:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="free")
    with connect(database_urls.superuser) as everything:
        everything.execute(_MAKE_UP, [EVENTS])
    first = await start_worker("--queue", "bulk").until_ready()
    handle = await saas.start_workflow(
        EnforceRetention.run,
        EnforceRetentionInput(tenant_id="acme"),
        id="acme/retention.enforce/killed",
        task_queue=Queue.BULK,
    )
    await a_batch_is_deleted(database_urls)
    first.send(signal.SIGKILL)
    assert await first.exit_code() == -signal.SIGKILL
    assert 0 < left(database_urls, "acme") < EVENTS

    second = await start_worker("--queue", "bulk").until_ready()
    assert (await handle.result()).deleted == EVENTS
    assert left(database_urls, "acme") == 0
    assert left(database_urls, "globex") == EVENTS
    second.send(signal.SIGTERM)
    assert await second.exit_code() == 0

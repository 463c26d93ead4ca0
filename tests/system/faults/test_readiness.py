"""A worker whose servers go down reports it, survives, and takes work once they are back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from saas.queues import Queue
from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.servers import Servers, running_servers
from workflows.billing import BillingCycle, BillingCycleInput

PATIENCE = 60  # seconds; a probe's answer is cached for 5
LOOK = 0.1  # seconds

TEMPORAL_AWAY = "Temporal does not answer"
DATABASE_AWAY = [
    "the database does not answer tenancy_tenant",
    "the database does not answer tenancy_platform",
]


@pytest.fixture
async def servers(
    tmp_path_factory: pytest.TempPathFactory, warm_processes: WarmPrograms
) -> AsyncIterator[Servers]:
    directory = tmp_path_factory.mktemp("servers")
    async with running_servers(directory, warm=warm_processes) as servers:
        await servers.have_workers(1)
        yield servers


async def until_ready_says(servers: Servers, reasons: list[str]) -> None:
    """Waits until the worker gives these reasons for not being ready; none: until it is ready."""
    [worker] = servers.workers
    expected = (503, {"status": "not ready", "reasons": reasons})
    if not reasons:
        expected = (200, {"status": "ready"})
    async with httpx.AsyncClient(timeout=PATIENCE) as http, asyncio.timeout(PATIENCE):
        while True:
            said = await http.get(f"{worker.health}/readyz")
            if (said.status_code, said.json()) == expected:
                break
            await asyncio.sleep(LOOK)
        assert (await http.get(f"{worker.health}/healthz")).json() == {"status": "ok"}


async def test_a_worker_is_not_ready_while_a_server_is_away_and_ready_again_after(
    servers: Servers,
) -> None:
    await until_ready_says(servers, [])
    await asyncio.to_thread(servers.postgres.stop, "immediate")
    await until_ready_says(servers, DATABASE_AWAY)
    await asyncio.to_thread(servers.temporal.kill)
    await until_ready_says(servers, [TEMPORAL_AWAY, *DATABASE_AWAY])
    await asyncio.to_thread(servers.postgres.start)
    await until_ready_says(servers, [TEMPORAL_AWAY])
    await asyncio.to_thread(servers.temporal.start)
    await until_ready_says(servers, [])

    [worker] = servers.workers
    changes = [
        (line["event"], line.get("reasons"))
        for line in worker.lines()
        if line["event"] in ("worker.ready", "worker.unready")
    ]
    assert changes == [
        ("worker.ready", None),
        ("worker.unready", DATABASE_AWAY),
        ("worker.ready", None),
    ]
    tenant = servers.tenants[0]
    invoice = await servers.client.execute_workflow(
        BillingCycle.run,
        BillingCycleInput(tenant_id=tenant, period="2013-04"),
        id=f"{tenant}/billing.cycle/2013-04",
        task_queue=Queue.BULK,
    )
    assert invoice.issued
    assert await servers.stop_processes() == [0]

"""A flood on one queue does not affect the others; within a queue the priority decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs import queue_control, queue_jobs
from tests.fixtures.jobs.queue_control import Turns
from tests.fixtures.jobs.queue_jobs import TurnInput

FLOOD = 50  # activities
BULK_SLOTS = 2


@pytest.fixture
def turns() -> Turns:
    return queue_control.new_turns()


@pytest.fixture
async def acme(temporal: TemporalDevServer, namespace: str) -> Client:
    """A client in the test's own namespace, where acme is a tenant."""
    plugin = TenancyPlugin(
        directory=InMemoryDirectory([make_tenant("acme")]),
        passthrough=["tests.fixtures.jobs.queue_control"],
    )
    return await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])


@asynccontextmanager
async def serving(client: Client, queue: str, slots: int) -> AsyncIterator[None]:
    worker = Worker(
        client,
        task_queue=queue,
        workflows=queue_jobs.WORKFLOWS,
        activities=queue_control.ACTIVITIES,
        max_concurrent_activities=slots,
    )
    async with worker:
        yield


async def start(
    client: Client, job: str, given: TurnInput, *, queue: str = "bulk"
) -> WorkflowHandle[object, object]:
    key = f"acme/{job}/{given.name}"
    return await client.start_workflow(job, given, id=key, task_queue=queue)


async def until_scheduled(run: WorkflowHandle[object, object], count: int) -> None:
    while len((await run.describe()).raw_description.pending_activities) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # the server has no event for it


async def test_a_flood_on_bulk_does_not_delay_critical(acme: Client, turns: Turns) -> None:
    async with serving(acme, "bulk", BULK_SLOTS), serving(acme, "critical", 1):
        flood = await start(
            acme, "test.usual", TurnInput(tenant_id="acme", name="flood", count=FLOOD, holds=True)
        )
        await turns.until(BULK_SLOTS)
        await until_scheduled(flood, FLOOD)
        # All of bulk's slots are taken, and stay taken until the critical job is done.
        critical = await start(
            acme,
            "test.urgent",
            TurnInput(tenant_id="acme", name="critical"),
            queue="critical",
        )
        await critical.result()
        assert turns.order == ["flood"] * BULK_SLOTS + ["critical"]
        turns.released.set()
        await flood.result()
    assert turns.order.count("flood") == FLOOD


async def test_a_higher_priority_that_is_queued_last_runs_first(acme: Client, turns: Turns) -> None:
    async with serving(acme, "bulk", 1):
        # It takes the only slot, so that everything after it has to queue.
        runs = [
            await start(acme, "test.usual", TurnInput(tenant_id="acme", name="first", holds=True))
        ]
        await turns.until(1)
        for job, name in (
            ("test.idle", "idle-1"),
            ("test.idle", "idle-2"),
            ("test.usual", "usual-1"),
            ("test.usual", "usual-2"),
            ("test.urgent", "urgent-1"),
            ("test.urgent", "urgent-2"),
        ):
            run = await start(acme, job, TurnInput(tenant_id="acme", name=name))
            await until_scheduled(run, 1)
            runs.append(run)
        # The server handles later starts later.
        at_once = await start(acme, "test.at_once", TurnInput(tenant_id="acme", name="last"))
        await at_once.result()
        turns.released.set()
        await asyncio.gather(*(run.result() for run in runs))
    ranks = [name.split("-")[0] for name in turns.order]
    assert ranks == ["first", "urgent", "urgent", "usual", "usual", "idle", "idle"]

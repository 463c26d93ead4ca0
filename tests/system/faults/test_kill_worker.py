"""A worker is killed during a fan-out: in the end each tenant is done exactly once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle

from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.load import make_up_tenants
from saas.queues import Queue
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult
from tests.fixtures.app import states_of
from tests.fixtures.worker_process import StartWorker

JOB = "billing.cycle"
TICK = "2013-04"
TENANTS = 60


def invoices(urls: DatabaseUrls) -> Counter[str]:
    """Returns each tenant's number of invoices for the month."""
    with connect(urls.superuser) as everything:
        rows = everything.execute("select tenant_id from invoices where period = %s", [TICK])
        return Counter(tenant for (tenant,) in rows)


async def some_invoices(urls: DatabaseUrls, count: int) -> None:
    """Waits until there are this many."""
    async with asyncio.timeout(60):
        while invoices(urls).total() < count:  # noqa: ASYNC110  # another process writes them
            await asyncio.sleep(0.02)


async def start_fan_out(client: Client, run: int) -> WorkflowHandle[FanOut, FanOutResult]:
    return await client.start_workflow(
        FanOut.run,
        FanOutInput(job=JOB, tick=TICK, window=10),
        id=f"platform/{JOB}/tick-{TICK}-{run}",
        task_queue=Queue.BULK,
    )


async def delete_history(client: Client, workflow_id: str) -> None:
    """Deletes a closed run, as the namespace's retention eventually does."""
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        )
    )
    run = client.get_workflow_handle(workflow_id)
    async with asyncio.timeout(60):
        # The server does it asynchronously.
        while await if_known(run.describe()) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_each_tenant_is_done_exactly_once_though_its_worker_was_killed(
    saas: Client, database: Database, database_urls: DatabaseUrls, start_worker: StartWorker
) -> None:
    tenants = await make_up_tenants(database, TENANTS, events=1)
    first = await start_worker("--queue", "bulk").until_ready()
    fan_out = await start_fan_out(saas, 1)
    await some_invoices(database_urls, 5)
    first.send(signal.SIGKILL)
    assert await first.exit_code() == -signal.SIGKILL
    assert invoices(database_urls).total() < TENANTS

    second = await start_worker("--queue", "bulk").until_ready()
    done = saas.get_workflow_handle(f"{tenants[0]}/{JOB}/{TICK}")
    await done.result()
    deleted = asyncio.create_task(delete_history(saas, done.id))
    result = await fan_out.result()
    assert (result.planned, result.succeeded, result.failed) == (TENANTS, TENANTS, 0)
    assert invoices(database_urls) == dict.fromkeys(tenants, 1)
    assert await states_of(database, JOB, TICK) == dict.fromkeys(tenants, "succeeded")

    # The ledger, not the id of a closed run, says what is done.
    await deleted
    again = await (await start_fan_out(saas, 2)).result()
    assert (again.succeeded, again.already) == (0, TENANTS)
    assert invoices(database_urls) == dict.fromkeys(tenants, 1)
    second.send(signal.SIGTERM)
    assert await second.exit_code() == 0

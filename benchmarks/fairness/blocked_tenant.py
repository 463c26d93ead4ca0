"""Do a tenant's jobs wait while another tenant has more blocked jobs than the worker has slots?

A job changes its tenant's single row, in one activity. Ours: jobs of tenant dl, one after the
other, on a worker with 20 activity slots and 10 connections, while an idle transaction keeps ua's
row locked and 40 jobs of ua need it, each of which has failed at least once. Peer: dl's jobs on the
same worker without ua's. Measured: the p95 time from a job's start to its result, as its caller
sees it.

Also reported: the longest time of one of dl's jobs, in seconds, at the onset, while ua's jobs
occupy every slot and the worker has not yet found that they make no progress.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from benchmarks.shared.burst_jobs import Change, ChangeInput
from benchmarks.shared.bursts import BURST_QUEUE, change_row
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, quantile, rounds, tell
from benchmarks.shared.servers import Servers
from processes.worker.slots import SlotOptions
from temporal_tenancy import Database
from temporal_tenancy.control_plane import Tenants
from temporal_tenancy.postgres import connect
from temporal_tenancy.sdk import POLLERS

NAME: Final = "blocked_tenant"
GOAL: Final = Goal("<=", 3.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
SLOTS: Final = 20
CONNECTIONS: Final = 10
BLOCKED: Final = 2 * SLOTS  # jobs of ua
JOBS: Final = 30  # of dl, per arm and round
LOOK: Final = 0.05  # seconds between polls
BLOCKER: Final = "ua"
OTHER: Final = "dl"


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 15 s per round."""
    urls = servers.new_database(NAME)
    database = Database(
        tenant_url=urls.tenant, platform_url=urls.platform, tenant_pool_size=CONNECTIONS
    )
    comparison, onsets = Comparison(), []
    logging.disable(logging.WARNING)  # the SDK logs each failed attempt
    try:
        with connect(urls.superuser) as blocker:
            for tenant in (BLOCKER, OTHER):
                await Tenants(database).add(tenant, tenant, plan="standard")
                blocker.execute(
                    "insert into daily_usage values (%s, '2013-01-01', 1, 0, 0, 0)", [tenant]
                )
            client = await servers.our_client(database)
            worker = Worker(
                client,
                task_queue=BURST_QUEUE,
                workflows=[Change],
                activities=[change_row],
                tuner=SlotOptions(max_activities=SLOTS).tuner(),
                workflow_task_poller_behavior=POLLERS,
                activity_task_poller_behavior=POLLERS,
            )
            async with worker:
                await _p95(client, "warm-up")
                for number in range(rounds(2, full=8)):
                    alone = await _p95(client, f"alone-{number}")
                    async with _blocked(client, blocker, number) as onset:
                        beside = await _p95(client, f"beside-{number}")
                    onsets.append(onset)
                    comparison.add({Arm.OURS: beside, Arm.PEER: alone})
                    tell(
                        f"{NAME}: round {number + 1}: p95 {beside * 1e3:.0f} ms beside blocked "
                        f"jobs, {alone * 1e3:.0f} ms alone; {onset:.2f} s at most at the onset"
                    )
    finally:
        logging.disable(logging.NOTSET)
        await database.dispose()
    besides = {"at_the_onset": max(onsets)}
    measured = "s, p95 from start to result"
    return [Answer(NAME, "the same without blocked jobs", GOAL, measured, comparison, besides)]


@asynccontextmanager
async def _blocked(
    client: Client, blocker: psycopg.Connection[Any], number: int
) -> AsyncIterator[float]:
    """Blocks ua's jobs; yields the longest time of one of dl's jobs until all were blocked."""
    with blocker.transaction():
        blocker.execute("update daily_usage set events = 0 where tenant_id = %s", [BLOCKER])
        runs = await asyncio.gather(
            *(_start(client, BLOCKER, f"{number}-{run}") for run in range(BLOCKED))
        )
        blocked = asyncio.create_task(_until_failed_once(runs))
        longest, jobs = 0.0, 0
        while not blocked.done():
            longest = max(longest, await _time(client, f"onset-{number}-{jobs}"))
            jobs += 1
        await blocked
        yield longest
        await asyncio.gather(*(run.terminate("enough") for run in runs))


async def _until_failed_once(runs: Sequence[WorkflowHandle[Any, Any]]) -> None:
    for run in runs:
        while True:  # the server sends no event for this
            pending = (await run.describe()).raw_description.pending_activities
            if pending and (pending[0].attempt > 1 or pending[0].HasField("last_failure")):
                break
            await asyncio.sleep(LOOK)


async def _p95(client: Client, key: str) -> float:
    """Returns the p95 time of dl's jobs, in seconds."""
    return quantile([await _time(client, f"{key}-{number}") for number in range(JOBS)], 0.95)


async def _time(client: Client, key: str) -> float:
    began = time.perf_counter()
    await (await _start(client, OTHER, key)).result()
    return time.perf_counter() - began


async def _start(client: Client, tenant: str, key: str) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        Change.run,
        ChangeInput(tenant_id=tenant),
        id=f"{tenant}/bench.change/{key}",
        task_queue=BURST_QUEUE,
    )

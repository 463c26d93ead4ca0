"""Does a worker's memory grow with the number of activities that it has run?

A worker with the settings of `worker.py` runs 20,000 short activities of 400 workflows (FULL=1;
otherwise 4,000 of 80), and its resident memory is sampled after each tenth of them. The first three
tenths are its warm-up: threads, caches, the sandbox's modules. Ours: the largest of the last three
samples. Peer: the largest sample of the warm-up.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psutil
from temporalio.worker import Worker

from benchmarks.shared.burst_jobs import BURST_ACTIVITIES, BURST_JOBS, Burst, BurstInput
from benchmarks.shared.bursts import BURST_QUEUE, log
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, tell
from benchmarks.shared.servers import Servers
from processes.worker.slots import SlotOptions
from temporal_tenancy import Database
from temporal_tenancy.control_plane import Tenants
from temporal_tenancy.sdk import POLLERS

NAME: Final = "worker_memory"
GOAL: Final = Goal("<=", 1.1)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANT: Final = "acme"
ACTIVITIES: Final = 50  # per workflow
AT_ONCE: Final = 4  # workflows
TENTHS: Final = 10
WARM_UP: Final = 3  # tenths
LAST: Final = 3  # tenths
MEGABYTE: Final = 1_000_000


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; a minute or two with FULL=1."""
    urls = servers.new_database("memory")
    database = Database(platform_url=urls.platform)
    await Tenants(database).add(TENANT, "Acme", plan="standard")
    client = await servers.our_client(database)
    options = SlotOptions()
    samples = []
    try:
        with ThreadPoolExecutor(options.max_activities) as threads:
            worker = Worker(
                client,
                task_queue=BURST_QUEUE,
                workflows=BURST_JOBS,
                activities=BURST_ACTIVITIES,
                activity_executor=threads,
                tuner=options.tuner(),
                workflow_task_poller_behavior=POLLERS,
                activity_task_poller_behavior=POLLERS,
            )

            async def run(key: int) -> None:
                await client.execute_workflow(
                    Burst.run,
                    BurstInput(tenant_id=TENANT, pieces=ACTIVITIES),
                    id=f"{TENANT}/bench.burst/{key}",
                    task_queue=BURST_QUEUE,
                )

            workflows = (20_000 if is_full() else 4_000) // ACTIVITIES
            async with worker:
                for tenth in range(TENTHS):
                    first, after = (workflows * part // TENTHS for part in (tenth, tenth + 1))
                    for start in range(first, after, AT_ONCE):
                        await asyncio.gather(*map(run, range(start, min(start + AT_ONCE, after))))
                    # Drop the benchmark's own records of activities, which would count.
                    log.taken()
                    gc.collect()
                    samples.append(psutil.Process().memory_info().rss / MEGABYTE)
                    tell(f"{NAME}: {(tenth + 1) * 10} %: {samples[-1]:.1f} MB")
    finally:
        await database.dispose()
    comparison = Comparison()
    comparison.add({Arm.OURS: max(samples[-LAST:]), Arm.PEER: max(samples[:WARM_UP])})
    return [Answer(NAME, "itself after its warm-up", GOAL, "MB, resident", comparison)]

"""How long does a mixed load take with resource-based slots?

The load mixes several kinds of jobs: 200 activities that end immediately, 100 that wait half a
second, as for a network response, and 16 that hold 40 MB and compute for about a fifth of a second
each in threads. Ours: the slots of `worker.py --slots resource`, which delays activities while the
machine's memory or processors are used beyond a target. Peer: `worker.py --slots fixed`. Both have
at most 100 slots and five pollers, and take turns on the same server.

Also reported: the growth of the process's memory under the load, divided by the peer's. It has no
goal, because it depends more on memory that the allocator kept from the previous round than on the
slots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import psutil
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.shared.burst_jobs import BURST_ACTIVITIES, BURST_JOBS, Burst, BurstInput
from benchmarks.shared.bursts import BURST_QUEUE, Piece, log
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell
from benchmarks.shared.servers import Servers
from processes.worker.slots import SlotOptions, Slots
from temporal_tenancy import Database
from temporal_tenancy.control_plane import Tenants
from temporal_tenancy.sdk import POLLERS

NAME: Final = "worker_slots"
# Delaying activities costs time; on a busy machine up to this factor.
GOAL: Final = Goal("<=", 2.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
SAMPLE: Final = 0.05  # seconds between memory samples
MEGABYTE: Final = 1_000_000

LOAD: Final[Mapping[str, tuple[int, Piece]]] = {  # number of activities, and their work, by tenant
    "short": (200, Piece()),
    "waiting": (100, Piece(seconds=0.5)),
    "computing": (16, Piece(megabytes=40, hashes=200)),
}


@dataclass(frozen=True)
class Run:
    """The result of one load."""

    seconds: float
    grown: float  # peak growth of the process, in MB


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; a few seconds per round."""
    urls = servers.new_database("slots")
    database = Database(platform_url=urls.platform)
    for tenant in LOAD:
        await Tenants(database).add(tenant, tenant, plan="standard")
    client = await servers.our_client(database)
    resource, memory = Comparison(), Comparison()
    try:
        for kind in Slots:
            await _run(client, kind, f"warm-up-{kind}")
        for number in range(rounds(2, full=9)):
            kinds = list(Slots) if number % 2 == 0 else list(reversed(Slots))
            runs = {kind: await _run(client, kind, f"{number}-{kind}") for kind in kinds}
            fixed, by_resource = runs[Slots.FIXED], runs[Slots.RESOURCE]
            resource.add({Arm.OURS: by_resource.seconds, Arm.PEER: fixed.seconds})
            memory.add({Arm.OURS: by_resource.grown, Arm.PEER: fixed.grown})
            tell(
                f"{NAME}: round {number + 1}: "
                + ", ".join(f"{kind} {run.seconds:.2f} s" for kind, run in runs.items())
            )
    finally:
        await database.dispose()
    besides = {"memory_grown": memory.ratio}
    return [Answer(NAME, "fixed slots", GOAL, "s, the load's time", resource, besides)]


async def _run(client: Client, kind: Slots, key: str) -> Run:
    options = SlotOptions(kind)
    before = _memory()
    # A new queue, since the server may still send a task to a poll of the previous worker.
    queue = f"{BURST_QUEUE}-{key}"
    with ThreadPoolExecutor(options.max_activities) as threads:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=BURST_JOBS,
            activities=BURST_ACTIVITIES,
            activity_executor=threads,
            tuner=options.tuner(),
            workflow_task_poller_behavior=POLLERS,
            activity_task_poller_behavior=POLLERS,
        )
        async with worker:
            began = time.perf_counter()
            load = asyncio.gather(*(_burst(client, tenant, key, queue) for tenant in LOAD))
            most = before
            while not load.done():
                most = max(most, _memory())
                await asyncio.wait((load,), timeout=SAMPLE)
            await load
            seconds = time.perf_counter() - began
    log.taken()
    # At least 1, so that the ratio is defined even if the process did not grow.
    return Run(seconds, max(most - before, 1.0))


async def _burst(client: Client, tenant: str, key: str, queue: str) -> None:
    count, piece = LOAD[tenant]
    await client.execute_workflow(
        Burst.run,
        BurstInput(tenant_id=tenant, pieces=count, piece=piece),
        id=f"{tenant}/bench.burst/{key}",
        task_queue=queue,
    )


def _memory() -> float:
    return psutil.Process().memory_info().rss / MEGABYTE

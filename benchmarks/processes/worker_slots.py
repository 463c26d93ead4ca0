"""How long does a mixed load take with resource-based slots and autoscaling pollers, by fixed ones?

The load is what a worker of several kinds of jobs sees at once: 200 activities that are done at
once, 100 that wait half a second as for an answer over the network, and 16 that hold 40 MB and
compute for about a fifth of a second each in threads. Ours has the slots and pollers that
`worker.py --slots resource` makes: activities are held back while the machine's memory or
processors are in use beyond a target, and polls are opened as the server says. The peer is
`worker.py --slots fixed` with the SDK's own five pollers. Both have 100 slots at most, on the same
server, in turns.

The second answer is the same for autoscaling pollers alone, with fixed slots, which is the default
of `worker.py`. Besides: by how much the process grew at most while the load ran, by the peer. There
is no goal for it: what an allocator keeps from the round before decides more than the slots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import psutil
from temporalio.client import Client
from temporalio.worker import PollerBehavior, PollerBehaviorSimpleMaximum, Worker

from benchmarks.shared.burst_jobs import BURST_ACTIVITIES, BURST_JOBS, Burst, BurstInput
from benchmarks.shared.bursts import BURST_QUEUE, Piece, log
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell
from benchmarks.shared.servers import Servers
from processes.worker.slots import POLLERS, SlotOptions, Slots
from temporal_tenancy import Database
from temporal_tenancy.control_plane import Tenants

NAME: Final = "worker_slots"
# Holding back costs time, on a machine that is full up to this.
RESOURCE_GOAL: Final = Goal("<=", 2.0)
POLLERS_GOAL: Final = Goal("<=", 1.1)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
FIVE: Final = PollerBehaviorSimpleMaximum(5)  # the SDK's default
SAMPLE: Final = 0.05  # seconds between looks at the memory
MEGABYTE: Final = 1_000_000

LOAD: Final[Mapping[str, tuple[int, Piece]]] = {  # activities, and what each does, by tenant
    "short": (200, Piece()),
    "waiting": (100, Piece(seconds=0.5)),
    "computing": (16, Piece(megabytes=40, hashes=200)),
}


class Kind(StrEnum):
    """How a worker is set."""

    FIXED = "fixed"
    POLLERS = "autoscaling pollers"
    RESOURCE = "resource-based slots and autoscaling pollers"


@dataclass(frozen=True)
class Run:
    """What a load came to."""

    seconds: float
    grown: float  # MB, of the process at most


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; some seconds a round."""
    urls = servers.new_database("slots")
    database = Database(platform_url=urls.platform)
    for tenant in LOAD:
        await Tenants(database).add(tenant, tenant, plan="standard")
    client = await servers.our_client(database)
    resource, memory, pollers = Comparison(), Comparison(), Comparison()
    try:
        for kind in Kind:
            await _run(client, kind, f"warm-up-{kind.name}")
        for number in range(rounds(2, full=9)):
            kinds = list(Kind) if number % 2 == 0 else list(reversed(Kind))
            runs = {kind: await _run(client, kind, f"{number}-{kind.name}") for kind in kinds}
            fixed = runs[Kind.FIXED]
            held = runs[Kind.RESOURCE]
            resource.add({Arm.OURS: held.seconds, Arm.PEER: fixed.seconds})
            memory.add({Arm.OURS: held.grown, Arm.PEER: fixed.grown})
            pollers.add({Arm.OURS: runs[Kind.POLLERS].seconds, Arm.PEER: fixed.seconds})
            tell(
                f"{NAME}: round {number + 1}: "
                + ", ".join(f"{kind} {run.seconds:.2f} s" for kind, run in runs.items())
            )
    finally:
        await database.dispose()
    peer, took = "fixed slots and five pollers", "s, the load's time"
    return [
        Answer(NAME, peer, RESOURCE_GOAL, took, resource, {"memory_grown": memory.ratio}),
        Answer(f"{NAME}_pollers", peer, POLLERS_GOAL, took, pollers),
    ]


async def _run(client: Client, kind: Kind, key: str) -> Run:
    options = SlotOptions(Slots.RESOURCE if kind is Kind.RESOURCE else Slots.FIXED)
    pollers: PollerBehavior = FIVE if kind is Kind.FIXED else POLLERS
    before = _memory()
    # A queue of its own: the server may still give a task to a poll of the worker before.
    queue = f"{BURST_QUEUE}-{key}"
    with ThreadPoolExecutor(options.max_activities) as threads:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=BURST_JOBS,
            activities=BURST_ACTIVITIES,
            activity_executor=threads,
            tuner=options.tuner(),
            workflow_task_poller_behavior=pollers,
            activity_task_poller_behavior=pollers,
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
    # At least one, so that a process which was as large before gives a ratio.
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

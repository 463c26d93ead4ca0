"""How soon is each tenant first served from one backlog, as Temporal's own test asks it?

15 workflows schedule 15 activities each, for tenants that are drawn from ten by Zipf's law (s = 2,
v = 2): a few have most of the backlog. All of it is scheduled before a worker takes any, from a
queue of one partition, one activity at a time. Then

    unfairness = sum over tenants of the place at which the first of theirs came / tenants²

which is about 0.5 where each tenant comes in the first round, and grows with the backlog where
the order is that of arrival. It is the measure and the load of `tests/priority_fairness_test.go`
of temporalio/temporal, whose bound is 1. Here the keys are those that the plugin sets: a platform
workflow names the tenant of each activity. The peer is the same load on a server whose fairness
is off; that it is above 1 shows that the measure can tell.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sqlalchemy.dialects.postgresql import insert
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.shared.burst_jobs import BURST_ACTIVITIES, BURST_JOBS, Round, RoundInput
from benchmarks.shared.bursts import BURST_QUEUE, log
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy import Database, TenantStatus
from temporal_tenancy.control_plane import TenantRow

NAME: Final = "fairness_order"
TEMPORAL_CONFIG: Final = {
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}
TENANTS: Final = [f"tenant-{number}" for number in range(10)]
WORKFLOWS: Final = 15
ACTIVITIES: Final = 15  # of each workflow
ZIPF_S: Final = 2.0
ZIPF_V: Final = 2.0
SEED: Final = 12345  # with it all ten are drawn
BOUND: Final = 1.0
LOOK: Final = 0.02  # seconds


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; some seconds a round."""
    urls = servers.new_database("order")
    database = Database(platform_url=urls.platform)
    async with database.platform_session("make up tenants") as session:
        rows = [
            {"id": one, "name": one, "status": TenantStatus.ACTIVE, "plan_id": "standard"}
            for one in TENANTS
        ]
        await session.execute(insert(TenantRow), rows)
    drawn = draw()
    fair, control = Comparison(), Comparison()
    try:
        with servers.unfair_temporal(TEMPORAL_CONFIG) as unfair_server:
            ours = await servers.our_client(database)
            peer = await servers.our_client(database, temporal=unfair_server)
            for number, order in enumerate(turns(rounds(2, full=6))):
                measured = {}
                for arm in order:
                    client = ours if arm is Arm.OURS else peer
                    measured[arm] = unfairness(await _order(client, drawn, f"{number}"))
                # Both against Temporal's bound.
                fair.add({Arm.OURS: measured[Arm.OURS], Arm.PEER: BOUND})
                control.add({Arm.OURS: measured[Arm.PEER], Arm.PEER: BOUND})
                tell(
                    f"{NAME}: round {number + 1}: {measured[Arm.OURS]:.2f} fair, "
                    f"{measured[Arm.PEER]:.2f} in order of arrival"
                )
    finally:
        await database.dispose()
    peer_name, unit = "the bound of Temporal's own test", "unfairness"
    return [
        Answer(NAME, peer_name, Goal("<=", 1.0), unit, fair),
        Answer(f"{NAME}_control", peer_name, Goal(">=", 1.0), unit, control),
    ]


def draw() -> list[list[str]]:
    """The tenants of each workflow's activities."""
    chance = random.Random(SEED)
    weights = [(ZIPF_V + rank) ** -ZIPF_S for rank in range(len(TENANTS))]
    return [chance.choices(TENANTS, weights, k=ACTIVITIES) for _ in range(WORKFLOWS)]


def unfairness(order: Sequence[str]) -> float:
    """What Temporal's test computes of the tenants in the order in which they were served."""
    tenants = set(order)
    return sum(order.index(tenant) for tenant in tenants) / len(tenants) ** 2


async def _order(client: Client, drawn: Sequence[Sequence[str]], key: str) -> list[str]:
    """The tenants, as their activities came to a worker that found them all waiting."""
    scheduler = Worker(
        client, task_queue=BURST_QUEUE, workflows=BURST_JOBS, no_remote_activities=True
    )
    async with scheduler:
        runs = [
            await client.start_workflow(
                Round.run,
                RoundInput(tenants=list(tenants)),
                id=f"platform/bench.round/{key}-{number}",
                task_queue=BURST_QUEUE,
            )
            for number, tenants in enumerate(drawn)
        ]
        for run in runs:
            # The server has no event for it.
            while len((await run.describe()).raw_description.pending_activities) < ACTIVITIES:  # noqa: ASYNC110
                await asyncio.sleep(LOOK)
        # What is started after them is through the server's hands after them.
        await client.execute_workflow(
            Round.run,
            RoundInput(tenants=[]),
            id=f"platform/bench.round/{key}-last",
            task_queue=BURST_QUEUE,
        )
    log.taken()
    worker = Worker(
        client,
        task_queue=BURST_QUEUE,
        workflows=BURST_JOBS,
        activities=BURST_ACTIVITIES,
        activity_executor=ThreadPoolExecutor(1),
        max_concurrent_activities=1,
    )
    async with worker:
        await asyncio.gather(*(run.result() for run in runs))
    return [one.tenant for one in log.taken()]

"""How long does a burst of small runs take with the worker's five pollers, and does one stall?

A burst is 120 workflows of one activity each, on an idle worker. Ours: `POLLERS`, which is what
`worker.py` has. Peer: `PollerBehaviorAutoscaling`, whose polls end after 11 seconds while much
arrives. The arms have a worker each on the same server, and take turns with pauses of different
lengths, so that polls are of all ages when a burst begins.

`stalled` is the number of an arm's bursts in which nothing ended for three seconds: a task was lost
and came again at its timeout.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Final

from temporalio.client import Client
from temporalio.worker import PollerBehavior, PollerBehaviorAutoscaling, Worker

from benchmarks.shared.bare_jobs import BareChild, BareInput
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.no_op import bare_no_op
from benchmarks.shared.servers import Servers
from temporal_tenancy.sdk import POLLERS

NAME: Final = "worker_pollers"
GOAL: Final = Goal("<=", 1.1)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
BURST: Final = 120  # workflows
PAUSE: Final = (2.0, 10.0)  # seconds
STALL: Final = 3.0  # seconds
ARMS: Final[dict[Arm, PollerBehavior]] = {
    Arm.OURS: POLLERS,
    Arm.PEER: PollerBehaviorAutoscaling(),
}


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about half a minute for each round."""
    client = await servers.bare_client()
    bursts, stalled = Comparison(), dict.fromkeys(Arm, 0)
    pauses = random.Random(1)
    async with AsyncExitStack() as stack:
        for arm, pollers in ARMS.items():
            worker = Worker(
                client,
                task_queue=f"{NAME}-{arm}",
                workflows=[BareChild],
                activities=[bare_no_op],
                workflow_task_poller_behavior=pollers,
                activity_task_poller_behavior=pollers,
            )
            await stack.enter_async_context(worker)
            await _burst(client, arm, "warm-up")
        for number, order in enumerate(turns(rounds(4, full=20))):
            ends = {}
            for arm in order:
                await asyncio.sleep(pauses.uniform(*PAUSE))
                ends[arm] = await _burst(client, arm, str(number))
                stalled[arm] += any(after - before > STALL for before, after in pairwise(ends[arm]))
            bursts.add({arm: found[-1] for arm, found in ends.items()})
            tell(
                f"{NAME}: round {number + 1}: "
                + ", ".join(f"{arm} {found[-1]:.1f} s" for arm, found in ends.items())
            )
    besides = {f"stalled_{arm}": float(count) for arm, count in stalled.items()}
    return [Answer(NAME, "autoscaling pollers", GOAL, "s, a burst", bursts, besides)]


async def _burst(client: Client, arm: Arm, key: str) -> list[float]:
    """Runs a burst; returns when its workflows ended, in seconds since it began, in order."""
    began = time.perf_counter()
    ends = []

    async def run(number: int) -> None:
        await client.execute_workflow(
            BareChild.run,
            BareInput(tenant_id=str(number)),
            id=f"{NAME}-{arm}-{key}-{number}",
            task_queue=f"{NAME}-{arm}",
        )
        ends.append(time.perf_counter() - began)

    await asyncio.gather(*map(run, range(BURST)))
    return ends

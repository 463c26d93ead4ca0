"""How many children per second does a fan-out run, compared with a client that starts them?

Ours: `FanOut` over 400 tenants, as in `fan_out_throughput`. Peer: a client with the same plugin
that starts the same job for the same tenants and awaits each result, 100 at a time, without
enumeration, ledger or parent. Both take turns on one server and one worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from temporalio.client import Client

from benchmarks.shared.fan_outs import JOB, add_tenants, children_per_second, request
from benchmarks.shared.jobs import OurChild, OurInput
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.no_op import OUR_QUEUE, WINDOW
from benchmarks.shared.servers import Servers, our_worker
from temporal_tenancy import Database, TenantStatus

NAME: Final = "fan_out_starts"
GOAL: Final = Goal(">=", 0.9)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = 400


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 20 s per round on two cores."""
    urls = servers.new_database("fan_out_starts")
    database = Database(platform_url=urls.platform)
    tenants = [f"t{number:05}" for number in range(TENANTS)]
    await add_tenants(database, tenants, TenantStatus.ACTIVE)
    client = await servers.our_client(database)
    comparison = Comparison()
    try:
        async with our_worker(client):
            await _by_client(client, "warm-up", tenants)
            for number, order in enumerate(turns(rounds(3, full=12))):
                measured: dict[Arm, float] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        asked = request(f"tick-{number}", TenantStatus.ACTIVE)
                        measured[arm] = await children_per_second(client, asked, TENANTS)
                    else:
                        measured[arm] = await _by_client(client, f"client-{number}", tenants)
                comparison.add(measured)
                tell(f"{NAME}: round {number + 1}: fan-out {measured[Arm.OURS]:.1f}, "
                     f"client {measured[Arm.PEER]:.1f} children/s")  # fmt: skip
    finally:
        await database.dispose()
    peer = "the same job started by a client, 100 at a time"
    return [Answer(NAME, peer, GOAL, "children/s", comparison)]


async def _by_client(client: Client, key: str, tenants: Sequence[str]) -> float:
    waiting: Iterator[str] = iter(tenants)

    async def place() -> None:
        for tenant in waiting:
            await client.execute_workflow(
                OurChild.run,
                OurInput(tenant_id=tenant),
                id=f"{tenant}/{JOB}/{key}",
                task_queue=OUR_QUEUE,
            )

    began = time.perf_counter()
    await asyncio.gather(*(place() for _ in range(WINDOW)))
    return len(tenants) / (time.perf_counter() - began)

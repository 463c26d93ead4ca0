"""Do tenants whose jobs hang slow down the others?

Ours: a fan-out over 1,000 tenants, 100 at once, of which 1 % hang until their job's timeout. Peer:
the same without hanging jobs. Measured: results per second of the other tenants, until the last of
them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import text
from temporalio.client import Client

from benchmarks.shared.fan_outs import add_tenants, request
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.no_op import OUR_QUEUE, STUCK, is_stuck
from benchmarks.shared.servers import Servers, our_worker
from temporal_tenancy import Database, FanOut, TenantStatus

NAME: Final = "fan_out_stuck"
GOAL: Final = Goal(">=", 0.9)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
JOB: Final = "bench.stuck"
TENANTS: Final = 1_000
_SUCCEEDED: Final = text(
    "select count(*) from tenancy.ledger where job = :job and tick = :tick and state = 'succeeded'"
)
LOOK: Final = 0.1  # seconds between reads of the ledger, which is written every two seconds


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about a minute per round on two cores."""
    urls = servers.new_database("fan_out_stuck")
    database = Database(platform_url=urls.platform)
    tenants = [f"t{number:05}" for number in range(TENANTS)]
    await add_tenants(database, tenants, TenantStatus.ACTIVE)
    others = [tenant for tenant in tenants if not is_stuck(tenant)]
    client = await servers.our_client(database)
    comparison = Comparison()
    try:
        async with our_worker(client):
            for number, order in enumerate(turns(rounds(1, full=6))):
                measured = {
                    arm: await _rate(client, database, f"{arm}-{number}", arm, len(others))
                    for arm in order
                }
                comparison.add(measured)
                tell(f"{NAME}: round {number + 1}: {measured[Arm.OURS]:.1f} others/s while "
                     f"{TENANTS - len(others)} hang, {measured[Arm.PEER]:.1f} without")  # fmt: skip
    finally:
        await database.dispose()
    peer = "nobody hangs, for 1 % of 1,000 tenants that do"
    return [Answer(NAME, peer, GOAL, "others/s", comparison)]


async def _rate(client: Client, database: Database, tick: str, arm: Arm, others: int) -> float:
    hangs = arm is Arm.OURS
    asked = request(tick, TenantStatus.ACTIVE, job=JOB)
    asked = asked.model_copy(update={"extra": {"note": STUCK if hangs else "none"}})
    wanted = others if hangs else TENANTS
    began = time.perf_counter()
    root = await client.start_workflow(
        FanOut.run, asked, id=f"platform/{JOB}/{tick}", task_queue=OUR_QUEUE
    )
    while await _succeeded(database, tick) < wanted:  # noqa: ASYNC110  # rows send no event
        await asyncio.sleep(LOOK)
    took = time.perf_counter() - began
    if hangs:
        async for child in client.list_workflows(f"Job = '{JOB}' AND ExecutionStatus = 'Running'"):
            if child.id != root.id and child.id.endswith(tick):
                await client.get_workflow_handle(child.id).terminate()
    await root.result()
    return wanted / took


async def _succeeded(database: Database, tick: str) -> int:
    async with database.platform_session("watch the ledger") as session:
        found = await session.scalar(_SUCCEEDED, {"job": JOB, "tick": tick})
        return int(found or 0)

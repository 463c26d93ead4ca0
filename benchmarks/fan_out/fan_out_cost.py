"""Does a tenant cost more where there are more tenants?

A fan-out of a no-op job over many tenants, start to result, beside one over few, on the same
server: seconds a tenant. With FULL=1 it is 10,000 beside 1,000, in shards of 200 on a server whose
limits on a history are a tenth of Temporal's own (5,120 events, a warning at 1,024). A fan-out over
100,000 tenants in shards of 2,000 has as many shards, each ten times as large, under limits that
are ten times as high: what holds here holds there, event for event.

Besides: the longest histories of a root and a shard, in events and bytes, and how much the memory
of the worker has grown from the end of the small fan-out to that of the large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psutil
from temporalio.client import Client

from benchmarks.shared.fan_outs import JOB, add_tenants, children_per_second, request
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, tell
from benchmarks.shared.servers import Servers, our_worker
from temporal_tenancy import Database, TenantStatus

NAME: Final = "fan_out_cost"
GOAL: Final = Goal("<=", 1.1)
EVENTS: Final = 5_120
TEMPORAL_CONFIG: Final[dict[str, str]] = {
    "limit.historyCount.error": str(EVENTS),
    "limit.historyCount.warn": str(EVENTS // 5),
}
SHARD_SIZE: Final = 200
FEW, MANY = TenantStatus.TRIAL, TenantStatus.ACTIVE


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about a minute on two cores, and six with FULL=1."""
    few, many = (1_000, 10_000) if is_full() else (300, 1_500)
    urls = servers.new_database("fan_out_cost")
    database = Database(platform_url=urls.platform)
    await add_tenants(database, [f"f{number:05}" for number in range(few)], FEW)
    await add_tenants(database, [f"m{number:05}" for number in range(many)], MANY)
    client = await servers.our_client(database)
    comparison = Comparison()
    memory: list[int] = []
    try:
        async with our_worker(client):
            await _seconds(client, "warm-up", FEW, few)
            for number in range(1 if is_full() else 3):
                before = await _seconds(client, f"few-{number}", FEW, few)
                memory.append(psutil.Process().memory_info().rss)
                ours = await _seconds(client, f"many-{number}", MANY, many)
                memory.append(psutil.Process().memory_info().rss)
                # A server slows as it fills, so what is large stands between two that are small.
                after = await _seconds(client, f"few-again-{number}", FEW, few)
                comparison.add({Arm.OURS: ours, Arm.PEER: (before + after) / 2})
                tell(f"{NAME}: {1000 * ours:.1f} ms a tenant, and {1000 * before:.1f} before, "
                     f"{1000 * after:.1f} after")  # fmt: skip
            root = f"platform/{JOB}/many-0"
            besides = {
                **await _longest(client, root, "root"),
                **await _longest(client, f"{root}/shard-", "shard"),
                "memory_grown": memory[-1] / memory[0],
            }
    finally:
        await database.dispose()
    assert besides["longest_shard_events"] < EVENTS / 5
    peer = f"{few:,} tenants, for {many:,}"
    return [Answer(NAME, peer, GOAL, "s/tenant", comparison, besides)]


async def _seconds(client: Client, tick: str, status: TenantStatus, tenants: int) -> float:
    asked = request(tick, status, shard_size=SHARD_SIZE)
    return 1 / await children_per_second(client, asked, tenants)


async def _longest(client: Client, prefix: str, what: str) -> dict[str, float]:
    """The longest history of the workflows whose ids begin so."""
    found = [
        described.raw_description.workflow_execution_info
        async for listed in client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}'")
        if (listed.id == prefix) == (what == "root")
        for described in [await client.get_workflow_handle(listed.id).describe()]
    ]
    return {
        f"longest_{what}_events": float(max(each.history_length for each in found)),
        f"longest_{what}_bytes": float(max(each.history_size_bytes for each in found)),
    }

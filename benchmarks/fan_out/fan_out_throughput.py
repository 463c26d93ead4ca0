"""How many children a second does a fan-out run with everything on, by bare temporalio's?

Ours is `FanOut` over 1,000 tenants of the control plane: plugin, guard, agreement, the state check
on the control plane, ledger, search attributes, fairness, summaries. It enumerates the tenants and
writes the ledger, and the time for both is in. The peer is what one writes in temporalio by hand:
a parent that gets the same 1,000 ids in its input, and keeps the same window of 100 children that
is refilled as each ends. A child is one no-op activity in both, with inputs of one size and ids of
one length; both have the sandbox, the pydantic converter, one worker of the SDK's default settings
and no eager activities. Logs are at WARNING in both.

A round runs each arm once, start to result. The value is the median over rounds of ours by the
peer's children a second. On a slow machine fewer rounds are made do with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from temporalio.client import Client

from benchmarks.shared.fan_outs import add_tenants, children_per_second, request
from benchmarks.shared.jobs import BareFanOut, BareFanOutInput
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.no_op import BARE_QUEUE
from benchmarks.shared.servers import Servers, bare_worker, our_worker
from temporal_tenancy import Database, TenantStatus

NAME: Final = "fan_out_throughput"
GOAL: Final = Goal(">=", 0.9)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = 1_000
WARM_UP_TENANTS: Final = 100
BUDGET: Final = 120.0  # seconds; no two further rounds begin after them


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 30 s a round on two cores."""
    urls = servers.new_database("fan_out")
    database = Database(platform_url=urls.platform)
    warm_up = [f"w{number:05}" for number in range(WARM_UP_TENANTS)]
    tenants = [f"t{number:05}" for number in range(TENANTS)]
    # On trial, so that a fan-out can choose them.
    await add_tenants(database, warm_up, TenantStatus.TRIAL)
    await add_tenants(database, tenants, TenantStatus.ACTIVE)
    ours, bare = await servers.our_client(database), await servers.bare_client()
    comparison = Comparison()
    try:
        async with our_worker(ours), bare_worker(bare):
            await children_per_second(ours, request("warm-up", TenantStatus.TRIAL), len(warm_up))
            await _run_bare(bare, "warm-up", warm_up)
            began = time.perf_counter()
            for number, order in enumerate(turns(rounds(3, full=12))):
                # By twos: a server slows as it fills, and each arm is to go first as often.
                spent = time.perf_counter() - began
                if number > 0 and number % 2 == 0 and spent > BUDGET and not is_full():
                    break
                measured: dict[Arm, float] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        measured[arm] = await children_per_second(
                            ours, request(f"tick-{number}", TenantStatus.ACTIVE), len(tenants)
                        )
                    else:
                        measured[arm] = await _run_bare(bare, f"tick-{number}", tenants)
                comparison.add(measured)
                tell(
                    f"{NAME}: round {number + 1}: ours {measured[Arm.OURS]:.1f}, "
                    f"bare {measured[Arm.PEER]:.1f} children/s"
                )
    finally:
        await database.dispose()
    peer = "the same window of children in bare temporalio"
    return [Answer(NAME, peer, GOAL, "children/s", comparison)]


async def _run_bare(client: Client, tick: str, tenants: list[str]) -> float:
    began = time.perf_counter()
    succeeded = await client.execute_workflow(
        BareFanOut.run,
        BareFanOutInput(tick=tick, tenants=tenants),
        id=f"platform/bench.bare/{tick}",
        task_queue=BARE_QUEUE,
    )
    took = time.perf_counter() - began
    assert succeeded == len(tenants), succeeded
    return len(tenants) / took

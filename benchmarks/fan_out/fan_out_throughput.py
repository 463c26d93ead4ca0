"""How many children per second does a fan-out with all features run, compared with bare temporalio?

Ours: `FanOut` over 1,000 tenants of the control plane, with plugin, guard, agreement, the state
check on the control plane, ledger, search attributes, fairness and summaries. Its time includes
enumerating the tenants and writing the ledger. Peer: a parent written by hand in temporalio, which
gets the same 1,000 ids in its input and keeps a window of 100 children, refilled as each ends. In
both, a child is one no-op activity, inputs have the same size and ids the same length; both use the
sandbox, the pydantic converter, one worker with the SDK's default settings, no eager activities,
and logs at WARNING.

A round runs each arm once, from start to result. The value is the median over rounds of ours
divided by the peer's, in children per second; `_cpu` is the same in children per second of all
processors' time, the server's too. A slow machine runs fewer rounds. `_same_fields` compares with
the peer when its children get the search attributes, priority and summary that ours have: what is
left is not the server's work on these.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from typing import Final

from temporalio.client import Client

from benchmarks.shared.bare_jobs import BareFanOut, BareFanOutInput
from benchmarks.shared.fan_outs import add_tenants, children_per_second, request
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.no_op import BARE_QUEUE
from benchmarks.shared.processor import CPU_UNIT, Rates, processor_seconds
from benchmarks.shared.servers import Servers, bare_worker, our_worker
from temporal_tenancy import Database, TenantStatus

NAME: Final = "fan_out_throughput"
GOAL: Final = Goal(">=", 0.92)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = 1_000
WARM_UP_TENANTS: Final = 100
BUDGET: Final = 150.0  # seconds after which no further pair of rounds begins


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 30 s per round on two cores."""
    urls = servers.new_database("fan_out")
    database = Database(platform_url=urls.platform)
    warm_up = [f"w{number:05}" for number in range(WARM_UP_TENANTS)]
    tenants = [f"t{number:05}" for number in range(TENANTS)]
    # On trial, so that the warm-up fan-out can select them by status.
    await add_tenants(database, warm_up, TenantStatus.TRIAL)
    await add_tenants(database, tenants, TenantStatus.ACTIVE)
    ours, bare = await servers.our_client(database), await servers.bare_client()
    comparison, of_cpu, same_fields = Comparison(), Comparison(), Comparison()
    try:
        async with our_worker(ours), bare_worker(bare):
            await children_per_second(ours, request("warm-up", TenantStatus.TRIAL), len(warm_up))
            await _run_bare(bare, "warm-up", warm_up)
            began = time.perf_counter()
            for number, order in enumerate(turns(rounds(3, full=12))):
                # In pairs, since a server slows down as it fills, and each arm must go first
                # equally often.
                spent = time.perf_counter() - began
                if number > 0 and number % 2 == 0 and spent > BUDGET and not is_full():
                    break
                measured: dict[Arm, Rates] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        asked = request(f"tick-{number}", TenantStatus.ACTIVE)
                        measured[arm] = await _measured(
                            children_per_second(ours, asked, len(tenants))
                        )
                    else:
                        measured[arm] = await _measured(_run_bare(bare, f"tick-{number}", tenants))
                same = await _measured(_run_bare(bare, f"same-{number}", tenants, same_fields=True))
                comparison.add({arm: each.per_second for arm, each in measured.items()})
                of_cpu.add({arm: each.per_cpu_second for arm, each in measured.items()})
                ours_rate = measured[Arm.OURS].per_cpu_second
                same_fields.add({Arm.OURS: ours_rate, Arm.PEER: same.per_cpu_second})
                tell(
                    f"{NAME}: round {number + 1}: children/s and /CPU second: ours "
                    f"{measured[Arm.OURS]}, bare {measured[Arm.PEER]}, with the "
                    f"same fields {same}"
                )
    finally:
        await database.dispose()
    peer, unit = "the same window of children in bare temporalio", f"children{CPU_UNIT}"
    return [
        Answer(NAME, peer, GOAL, "children/s", comparison),
        Answer(f"{NAME}_cpu", peer, GOAL, unit, of_cpu),
        Answer(f"{NAME}_same_fields", f"{peer}, with our fields", GOAL, unit, same_fields),
    ]


async def _measured(run: Coroutine[None, None, float]) -> Rates:
    """Returns the rates of a run over all tenants, which returns its own by the clock."""
    before = processor_seconds(own=True)
    per_second = await run
    return Rates(per_second, TENANTS / (processor_seconds(own=True) - before))


async def _run_bare(
    client: Client, tick: str, tenants: list[str], *, same_fields: bool = False
) -> float:
    began = time.perf_counter()
    succeeded = await client.execute_workflow(
        BareFanOut.run,
        BareFanOutInput(tick=tick, tenants=tenants, same_fields=same_fields),
        id=f"platform/bench.bare/{tick}",
        task_queue=BARE_QUEUE,
    )
    took = time.perf_counter() - began
    assert succeeded == len(tenants), succeeded
    return len(tenants) / took

"""How many small jobs a second are worked off, end to end, by procrastinate's?

A job adds one row for one tenant. Ours are asked for in batches of 1,000, go through the outbox, a
relay's process and Temporal, a hundred to a workflow, to one worker's process, ten at once; each is
done in a `tenant_session()` under row-level security, once by `once()`, and marked. procrastinate's
are deferred in the same batches, and worked off by one worker's process at concurrency 10, which
adds the same row to a table without row-level security in one statement, over a pool of its own. A
job that is run again adds its row again there. Both have 20,000 finished jobs behind them, and are
analysed. Measured is from the first request to the last mark.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmarks.outbox.outbox_stack import outbox
from benchmarks.outbox.procrastinate_peer import peer
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers

NAME: Final = "small_jobs"
GOAL: Final = Goal(">=", 1.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = tuple(f"t{number:02}" for number in range(4))
JOBS: Final = 1_000  # of each tenant in a round


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 45 s on two cores."""
    comparison = Comparison()
    async with outbox(servers, "small_jobs", TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        await ours.process("relay")
        await ours.process("small")
        await ours.process("worker", module="procrastinate_peer")
        for number, order in enumerate(turns(rounds(3, full=15) + 1)):
            measured: dict[Arm, float] = {}
            for arm in order:
                inputs = [{"number": each} for each in range(JOBS)]
                began = time.perf_counter()
                for tenant in TENANTS:
                    if arm is Arm.OURS:
                        await ours.ask(tenant, "bench.small", inputs)
                    else:
                        await other.ask(tenant, inputs)
                await (ours if arm is Arm.OURS else other).until_worked_off()
                measured[arm] = len(TENANTS) * JOBS / (time.perf_counter() - began)
            if number:  # the first round makes connections and fills caches
                comparison.add(measured)
            tell(
                f"{NAME}: round {number}: ours {measured[Arm.OURS]:.0f}, "
                f"procrastinate {measured[Arm.PEER]:.0f} jobs/s"
            )
    return [Answer(NAME, "procrastinate's worker at concurrency 10", GOAL, "jobs/s", comparison)]

"""How many small jobs per second run end to end, compared with procrastinate?

A job adds one row for one tenant. Ours: jobs are enqueued in batches of 1,000 and go through the
outbox, a relay's process and Temporal, a hundred to a workflow, to one worker's process, which runs
ten at a time; each runs in a `tenant_session()` under row-level security, has its effect once by
`once()`, and is marked. Peer: procrastinate's jobs are deferred in the same batches and run by one
worker's process with concurrency 10, which adds the same row to a table without row-level security
in one statement, over its own pool; a job that runs again adds its row again. Both tables contain
20,000 finished jobs and are analysed. Measured: from the first request to the last mark.
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
JOBS: Final = 1_000  # per tenant and round


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 45 s on two cores."""
    comparison = Comparison()
    async with outbox(servers, "small_jobs", TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        await ours.process("relay")
        await ours.process("small")
        await ours.process("worker", module="procrastinate_peer")
        for number, order in enumerate(turns(rounds(3, full=15) + 1)):
            measured: dict[Arm, float] = {}
            for arm in order:
                inputs = [{"number": index} for index in range(JOBS)]
                began = time.perf_counter()
                for tenant in TENANTS:
                    if arm is Arm.OURS:
                        await ours.ask(tenant, "bench.small", inputs)
                    else:
                        await other.ask(tenant, inputs)
                await (ours if arm is Arm.OURS else other).until_worked_off()
                measured[arm] = len(TENANTS) * JOBS / (time.perf_counter() - began)
            if number:  # the first round opens connections and fills caches
                comparison.add(measured)
            tell(
                f"{NAME}: round {number}: ours {measured[Arm.OURS]:.0f}, "
                f"procrastinate {measured[Arm.PEER]:.0f} jobs/s"
            )
    return [Answer(NAME, "procrastinate's worker at concurrency 10", GOAL, "jobs/s", comparison)]

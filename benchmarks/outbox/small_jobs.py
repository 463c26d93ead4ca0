"""How many small jobs per second run end to end, compared with procrastinate?

A job adds one row for one tenant. Ours: jobs are enqueued in batches of 1,000 and go through the
outbox, a relay's process and Temporal to one worker's process; they run in a `tenant_session()`
under row-level security, have their effect once by `once()`, and are marked. They do so in three
ways: `together` a hundred to a workflow and to a transaction; `poison` twenty to a transaction,
where one in a hundred cannot be handled and becomes a dead letter; `each` a hundred to a workflow,
and each in a transaction of its own, ten at a time. Peer: procrastinate's jobs are deferred in the
same batches and run by one worker's process with concurrency 10, which adds the same row to a table
without row-level security in one statement, over its own pool; a job that runs again adds its row
again. None of its jobs is poison. Both tables contain 20,000 finished jobs and are analysed.
Measured: from the first request to the last mark.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.outbox.outbox_stack import Outbox, outbox, value_of
from benchmarks.outbox.procrastinate_peer import Peer, peer
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers

NAME: Final = "small_jobs"
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = tuple(f"t{number:02}" for number in range(4))
JOBS: Final = 1_000  # per tenant and round
IN: Final = 100  # one job in so many is poison, where there is poison

_DEAD: Final = "select count(*) from tenancy.outbox_messages where status = 'dead_letter'"
_ROWS: Final = "select count(*) from audit_entries where actor = 'bench'"


@dataclass(frozen=True)
class _Way:
    """A way in which our jobs run."""

    name: str
    job: str
    goal: Goal
    poison: bool = False

    def inputs(self) -> list[Mapping[str, Any]]:
        """Returns the inputs of one tenant's jobs."""
        numbers = range(JOBS)
        if not self.poison:
            return [{"number": number} for number in numbers]
        return [{"number": number, "poison": number % IN == 0} for number in numbers]


WAYS: Final = (
    _Way("together", "bench.together", Goal(">=", 3.0)),
    _Way("poison", "bench.together_20", Goal(">=", 1.5), poison=True),
    _Way("each", "bench.small", Goal(">=", 1.0)),
)


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 75 s on two cores."""
    comparisons = {way: Comparison() for way in WAYS}
    async with outbox(servers, "small_jobs", TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        await ours.process("relay")
        await ours.process("small")
        await ours.process("worker", module="procrastinate_peer")
        for number, order in enumerate(turns(rounds(3, full=15) + 1)):
            rates: dict[_Way | None, float] = {}
            for arm in order:
                for way in WAYS if arm is Arm.OURS else (None,):
                    rates[way] = await _rate(ours, other, way)
            if number:  # the first round opens connections and fills caches
                for way, comparison in comparisons.items():
                    comparison.add({Arm.OURS: rates[way], Arm.PEER: rates[None]})
            told = ", ".join(f"{way.name} {rates[way]:.0f}" for way in WAYS)
            tell(f"{NAME}: round {number}: {told}, procrastinate {rates[None]:.0f} jobs/s")
        asked = len(TENANTS) * JOBS * (rounds(3, full=15) + 1)
        dead = await value_of(ours.everything, _DEAD)
        assert dead == asked // IN, dead
        rows = await value_of(ours.everything, _ROWS)
        assert rows == asked * len(WAYS) - dead, rows
    peer_name = "procrastinate's worker at concurrency 10"
    return [
        Answer(f"{NAME}.{way.name}", peer_name, way.goal, "jobs/s", comparison)
        for way, comparison in comparisons.items()
    ]


async def _rate(ours: Outbox, other: Peer, way: _Way | None) -> float:
    """Returns how many jobs a second run; without a way, the peer's."""
    inputs = [{"number": number} for number in range(JOBS)]
    began = time.perf_counter()
    for tenant in TENANTS:
        if way is None:
            await other.ask(tenant, inputs)
        else:
            await ours.ask(tenant, way.job, way.inputs())
    await (other if way is None else ours).until_worked_off()
    return len(TENANTS) * JOBS / (time.perf_counter() - began)

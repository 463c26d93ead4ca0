"""How fast do jobs get into the table and out of it again, by procrastinate's?

Nothing is done with a job: ours is enqueued, claimed by a relay whose sink does nothing, and
marked; procrastinate's is deferred and fetched. Asked twice: with batches of 500 where there are
some (`enqueue_many`, and the relay's claims of 256; `batch_defer_async`; procrastinate fetches one
job after the other, as its worker does), and with each job asked for in a transaction of its own.
Both have 20,000 finished jobs in their tables, and are analysed. What is measured is both ways
together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from typing import Final

from temporalio.client import Client

from benchmarks.outbox.outbox_stack import Outbox, outbox, running
from benchmarks.outbox.procrastinate_peer import Peer, peer
from benchmarks.outbox.relay_throughput import LastOf, nowhere
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy.outbox import RelayOptions

NAME: Final = "enqueue_and_claim"
GOAL: Final = Goal(">=", 1.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = ("t0", "t1")
JOBS: Final = 500  # of each tenant in a round
JOB: Final = "bench.started"
KEEP: Final = timedelta(hours=1)  # that what is done with stays, as in the peer's table


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 25 s on two cores."""
    found = []
    async with outbox(servers, NAME, TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        client = await ours.client()
        for name, batch in ((NAME, JOBS), (f"{NAME}_singly", 1)):
            comparison = Comparison()
            asked: dict[Arm, list[float]] = {arm: [] for arm in Arm}
            for number, order in enumerate(turns(rounds(3, full=11) + 1)):
                measured: dict[Arm, float] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        into, out = await _ours(ours, client, batch)
                    else:
                        into, out = await _theirs(other, batch)
                    asked[arm].append(_all() / into)
                    measured[arm] = _all() / (into + out)
                if number:  # the first round makes connections
                    comparison.add(measured)
                tell(
                    f"{name}: round {number}: ours {measured[Arm.OURS]:.0f}, procrastinate "
                    f"{measured[Arm.PEER]:.0f} jobs/s"
                )
            besides = {
                "enqueued": median(asked[Arm.OURS][1:]),
                "deferred_by_peer": median(asked[Arm.PEER][1:]),
            }
            peers = "procrastinate's defer and fetch"
            found.append(Answer(name, peers, GOAL, "jobs/s, in and out", comparison, besides))
    return found


async def _ours(ours: Outbox, client: Client, batch: int) -> tuple[float, float]:
    """Seconds to ask for all jobs, and to claim them."""
    began = time.perf_counter()
    for tenant in TENANTS:
        for _ in range(0, JOBS, batch):
            await ours.ask(tenant, JOB, [{}] * batch)
    asked = time.perf_counter()
    last = LastOf(_all())
    options = RelayOptions(keep_completed=KEEP)
    async with running(ours.relay(client, options, deliver=last.after(nowhere))):
        await last.done.wait()
        await ours.until_worked_off()
        claimed = time.perf_counter()
    return asked - began, claimed - asked


async def _theirs(other: Peer, batch: int) -> tuple[float, float]:
    """Seconds to defer all jobs, and to fetch them."""
    began = time.perf_counter()
    for tenant in TENANTS:
        for _ in range(0, JOBS, batch):
            await other.ask(tenant, [{"number": 1}] * batch)
    asked = time.perf_counter()
    worker = await other.app.job_manager.register_worker()
    while await other.app.job_manager.fetch_job(queues=None, worker_id=worker) is not None:
        pass
    fetched = time.perf_counter()
    await other.forget_open_jobs()
    return asked - began, fetched - asked


def _all() -> int:
    return JOBS * len(TENANTS)

"""How fast do jobs go into the table and out of it again, compared with procrastinate?

No job runs. Ours: jobs are enqueued, claimed by a relay that delivers to nothing, and marked. Peer:
procrastinate's jobs are deferred and fetched. There are two answers: with batches of 500
(`enqueue_many`, and the relay's claims of 256; `batch_defer_async`, but single fetches, as
procrastinate's worker does), and with each job enqueued in its own transaction. Both tables contain
20,000 finished jobs and are analysed. Measured: both directions together, in jobs per second.
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
JOBS: Final = 500  # per tenant and round
JOB: Final = "bench.started"
KEEP: Final = timedelta(hours=1)  # keeps completed messages, as the peer's table does


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 25 s on two cores."""
    found = []
    async with outbox(servers, NAME, TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        client = await ours.client()
        for name, batch in ((NAME, JOBS), (f"{NAME}_singly", 1)):
            comparison = Comparison()
            enqueued: dict[Arm, list[float]] = {arm: [] for arm in Arm}
            for number, order in enumerate(turns(rounds(3, full=11) + 1)):
                measured: dict[Arm, float] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        into, out = await _ours(ours, client, batch)
                    else:
                        into, out = await _theirs(other, batch)
                    enqueued[arm].append(_all() / into)
                    measured[arm] = _all() / (into + out)
                if number:  # the first round opens connections
                    comparison.add(measured)
                tell(
                    f"{name}: round {number}: ours {measured[Arm.OURS]:.0f}, procrastinate "
                    f"{measured[Arm.PEER]:.0f} jobs/s"
                )
            besides = {
                "enqueued": median(enqueued[Arm.OURS][1:]),
                "deferred_by_peer": median(enqueued[Arm.PEER][1:]),
            }
            peers = "procrastinate's defer and fetch"
            found.append(Answer(name, peers, GOAL, "jobs/s, in and out", comparison, besides))
    return found


async def _ours(ours: Outbox, client: Client, batch: int) -> tuple[float, float]:
    """Returns the seconds to enqueue all jobs, and to claim them."""
    began = time.perf_counter()
    for tenant in TENANTS:
        for _ in range(0, JOBS, batch):
            await ours.ask(tenant, JOB, [{}] * batch)
    enqueued = time.perf_counter()
    last = LastOf(_all())
    options = RelayOptions(keep_completed=KEEP)
    async with running(ours.relay(client, options, deliver=last.after(nowhere))):
        await last.done.wait()
        await ours.until_worked_off()
        claimed = time.perf_counter()
    return enqueued - began, claimed - enqueued


async def _theirs(other: Peer, batch: int) -> tuple[float, float]:
    """Returns the seconds to defer all jobs, and to fetch them."""
    began = time.perf_counter()
    for tenant in TENANTS:
        for _ in range(0, JOBS, batch):
            await other.ask(tenant, [{"number": 1}] * batch)
    deferred = time.perf_counter()
    worker = await other.app.job_manager.register_worker()
    while await other.app.job_manager.fetch_job(queues=None, worker_id=worker) is not None:
        pass
    fetched = time.perf_counter()
    await other.forget_open_jobs()
    return deferred - began, fetched - deferred


def _all() -> int:
    return JOBS * len(TENANTS)

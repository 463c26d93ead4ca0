"""Does a flood of analytics delay payments?

Both belong to one tenant and go through one relay, with separate workers: payments on the queue
`critical`, analytics on `bulk`, where 100 jobs of 0.2 s occupy 4 slots. Once the flood is
scheduled, a payment is requested every 50 ms. Measured: the p95 time from a payment's request to
its activity. There are two answers: compared with the same payments without a flood and, as a
control, with payments on the flood's own queue and priority, which wait their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from benchmarks.outbox.outbox_effects import PAYMENTS_QUEUE
from benchmarks.outbox.outbox_jobs import OUTBOX_ACTIVITIES, OUTBOX_JOBS
from benchmarks.outbox.outbox_stack import LOOK, Outbox, outbox
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, quantile, rounds, tell
from benchmarks.shared.servers import Servers

NAME: Final = "payments_under_flood"
AGAINST_ALONE: Final = Goal("<=", 3.0)
AGAINST_ONE_QUEUE: Final = Goal("<=", 0.2)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANT: Final = "acme"
FLOOD: Final = 100  # jobs
FLOOD_SECONDS: Final = 0.2  # duration of each
PAYMENTS: Final = 20
APART: Final = 0.05  # seconds between payments


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 10 s per round."""
    alone, one_queue = Comparison(), Comparison()
    async with outbox(servers, NAME, [TENANT]) as ours:
        client = await servers.our_client(ours.database)
        async with _worker(client):
            await ours.process("relay")
            await ours.process("analytics")
            for job in ("bench.payment", "bench.payment_in_line"):
                await _pay(ours, job)
            for number in range(rounds(2, full=8)):
                without = await _pay(ours, "bench.payment")
                with_flood, in_line = [
                    await _pay_in_a_flood(ours, client, f"{job}-{number}", job)
                    for job in ("bench.payment", "bench.payment_in_line")
                ]
                alone.add({Arm.OURS: with_flood, Arm.PEER: without})
                one_queue.add({Arm.OURS: with_flood, Arm.PEER: in_line})
                tell(
                    f"{NAME}: round {number + 1}: p95 {with_flood:.2f} s in a flood, "
                    f"{without:.2f} s without, {in_line:.2f} s on the flood's own queue"
                )
    measured = "s, p95 from request to work"
    line = "the same on the flood's own queue"
    return [
        Answer(f"{NAME}_against_alone", "without a flood", AGAINST_ALONE, measured, alone),
        Answer(NAME, line, AGAINST_ONE_QUEUE, measured, one_queue),
    ]


async def _pay_in_a_flood(ours: Outbox, client: Client, key: str, job: str) -> float:
    keys = [f"{key}-{number}" for number in range(FLOOD)]
    work = {"asked_at": time.time(), "seconds": FLOOD_SECONDS}
    await ours.ask(TENANT, "bench.analytics", [work] * FLOOD, keys)
    await ours.until_worked_off()
    # Workflows that have started but not scheduled their activity use the processors, whose time
    # no queue divides.
    flood = [client.get_workflow_handle(f"{TENANT}/bench.analytics/{each}") for each in keys]
    for run in flood:
        await _until_scheduled(run)
    latency = await _pay(ours, job)
    await asyncio.gather(*(run.result() for run in flood))
    return latency


async def _until_scheduled(run: WorkflowHandle[Any, Any]) -> None:
    while True:  # the server sends no event for this
        description = await run.describe()
        if description.raw_description.pending_activities or description.close_time is not None:
            return
        await asyncio.sleep(LOOK)


async def _pay(ours: Outbox, job: str) -> float:
    """Requests payments one after the other; returns the p95 of their latency, in seconds."""
    before = len(await _latencies(ours))
    for _ in range(PAYMENTS):
        await ours.ask(TENANT, job, [{"asked_at": time.time()}])
        await asyncio.sleep(APART)
    while len(found := (await _latencies(ours))[before:]) < PAYMENTS:  # noqa: ASYNC110
        await asyncio.sleep(LOOK)
    return quantile(found, 0.95)


async def _latencies(ours: Outbox) -> list[float]:
    rows = await ours.everything.execute("select subject from audit_entries order by id")
    return [float(subject) for (subject,) in await rows.fetchall()]


def _worker(client: Client) -> Worker:
    """Returns the payments' worker."""
    return Worker(
        client,
        task_queue=PAYMENTS_QUEUE,
        workflows=OUTBOX_JOBS,
        activities=OUTBOX_ACTIVITIES,
    )

"""How long after a commit is its job's workflow started, by an idle relay?

Ours is the time from the commit of a transaction that enqueued one job until the relay, which had
nothing to do and was told by NOTIFY, has started the workflow. The peer is a start of the same
workflow by a client, with no outbox in between. `polling_p95` is the same with a relay that is told
nothing and only looks once a second, which is what there is while its connection is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from temporalio.client import Client

from benchmarks.outbox.outbox_effects import SMALL_QUEUE
from benchmarks.outbox.outbox_stack import Outbox, outbox, running
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, quantile, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy import TenantInput
from temporal_tenancy.outbox import RelayOptions, RetryLadder, Unit, start_unit

NAME: Final = "pickup_latency"
GOAL: Final = Goal("<=", 5.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANT: Final = "acme"
JOB: Final = "bench.started"
SAMPLES: Final = 40  # of each arm in a round
POLLED: Final = 6  # samples without notifications


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 15 s on two cores."""
    comparison, told, polled = Comparison(), list[float](), list[float]()
    async with outbox(servers, NAME, [TENANT]) as ours:
        await ours.has_history()
        client = await ours.client()
        pickup = Pickup()
        async with running(ours.relay(client, RelayOptions(), deliver=pickup.deliver)):
            await _picked_up(ours, pickup, SAMPLES)  # the first starts of a server are slow
            for number, order in enumerate(turns(rounds(5, full=20))):
                measured: dict[Arm, float] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        taken = await _picked_up(ours, pickup, SAMPLES)
                        told += taken
                    else:
                        taken = await _started(client, f"direct-{number}")
                    measured[arm] = quantile(taken, 0.95)
                comparison.add(measured)
        untold = RelayOptions(listens=False)
        async with running(ours.relay(client, untold, deliver=pickup.deliver)):
            polled += await _picked_up(ours, pickup, POLLED)
    tell(f"{NAME}: p95 {quantile(told, 0.95):.1f} ms, by polling alone {max(polled):.0f} ms")
    besides = {"p50": quantile(told, 0.5), "polling_most": max(polled)}
    peer = "a start of the same workflow by a client, p95"
    return [Answer(NAME, peer, GOAL, "ms, p95 from commit to start", comparison, besides)]


class Pickup:
    """Sees when the relay has started a workflow."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def deliver(self, client: Client, unit: Unit, ladder: RetryLadder) -> None:
        """As the relay's own."""
        await start_unit(client, unit, ladder)
        self.started.set()


async def _picked_up(ours: Outbox, pickup: Pickup, samples: int) -> list[float]:
    """Milliseconds from commit to start, one after the other."""
    taken = []
    for _ in range(samples):
        pickup.started.clear()
        await ours.ask(TENANT, JOB, [{}])
        began = time.perf_counter()
        await pickup.started.wait()
        taken.append((time.perf_counter() - began) * 1000)
        await ours.until_worked_off()
    return taken


async def _started(client: Client, key: str) -> list[float]:
    """Milliseconds of a client's own start, one after the other."""
    taken = []
    for number in range(SAMPLES):
        began = time.perf_counter()
        await client.start_workflow(
            JOB,
            TenantInput(tenant_id=TENANT),
            id=f"{TENANT}/{JOB}/{key}-{number}",
            task_queue=SMALL_QUEUE,
        )
        taken.append((time.perf_counter() - began) * 1000)
    return taken

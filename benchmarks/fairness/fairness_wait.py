"""How long does a small tenant wait behind a flood, with fairness and without?

A worker has 4 slots for activities. A flood of 400 activities occupies them for 5 s; when it is
scheduled, twenty small tenants schedule one activity each. What counts is the small tenants' p95
wait, from an activity's scheduling to its start, both as the server says. The fairness keys are
those that the plugin sets: the tenants' ids. The peer is the same load on a server beside it whose
fairness is off, which serves in order of arrival; jobs, plugin, worker and all other settings are
the same, and the queue has the server's usual four partitions.

Asked five times over: the flood of one tenant; the same small tenants with no flood at all as the
peer; the flood's own time, which fairness must not lengthen by more than the small tenants' work;
a flood that is spread over 50 tenants, where a small one's turn comes after one activity of each;
and a flood of activities six times as long. Fairness orders what is given out, and does not weigh
what already runs: behind slow activities a small tenant waits for a slot all the same.

Jain's index is that of the activities that each tenant got from when all small tenants' were
scheduled until the last of them was given out: 1 where all got as many, 1/n where one of n got
everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Final

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from benchmarks.shared.burst_jobs import BURST_ACTIVITIES, BURST_JOBS, Burst, BurstInput
from benchmarks.shared.bursts import BURST_QUEUE, Piece, Served, log
from benchmarks.shared.fan_outs import add_tenants
from benchmarks.shared.measure import (
    Answer,
    Arm,
    Comparison,
    Goal,
    jain,
    quantile,
    rounds,
    tell,
    turns,
)
from benchmarks.shared.servers import Servers
from temporal_tenancy import Database, TenantStatus

NAME: Final = "fairness_wait"
BEHIND_A_FLOOD: Final = Goal("<=", 0.2)
AGAINST_ALONE: Final = Goal("<=", 3.0)
THE_FLOOD_ITSELF: Final = Goal("<=", 1.1)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
SLOTS: Final = 4
SMALL: Final = tuple(f"small-{number}" for number in range(20))
MANY: Final = 50  # tenants that a flood is spread over
LOOK: Final = 0.02  # seconds

Handle = WorkflowHandle[Burst, None]


@dataclass(frozen=True)
class Flood:
    """What comes before the small tenants."""

    tenants: Sequence[str]
    pieces: int  # activities of each
    seconds: float  # that each takes


ONE: Final = Flood(["flood"], pieces=400, seconds=0.05)
# A tenant has about twelve in each of four partitions: as many rounds there are.
SPREAD: Final = Flood([f"flood-{number}" for number in range(MANY)], pieces=50, seconds=0.01)
SLOW: Final = Flood(["flood"], pieces=160, seconds=0.3)


@dataclass(frozen=True)
class Run:
    """What came of a load."""

    small_waits: Sequence[float]  # seconds, of each activity
    flood_took: float  # seconds from its start to its end; 0 without one
    fairness: float  # Jain's index

    @property
    def p95(self) -> float:
        """Seconds that the small tenants waited."""
        return quantile(list(self.small_waits), 0.95)


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 12 s a round, 25 s where the flood is longer."""
    urls = servers.new_database("fairness")
    database = Database(platform_url=urls.platform)
    tenants = [*SMALL, *ONE.tenants, *SPREAD.tenants]
    await add_tenants(database, tenants, TenantStatus.ACTIVE)
    try:
        with servers.unfair_temporal(TEMPORAL_CONFIG) as unfair:
            ours = await servers.our_client(database)
            peer = await servers.our_client(database, temporal=unfair)
            async with _worker(ours), _worker(peer):
                for each in (ours, peer):
                    await _load(each, "warm-up", None)
                return await _ask(ours, peer)
    finally:
        await database.dispose()


async def _ask(ours: Client, peer: Client) -> Sequence[Answer]:
    one = await _measure(ours, peer, ONE, "one", rounds(2, full=9))
    spread = await _measure(ours, peer, SPREAD, "spread", rounds(1, full=6))
    slow = await _measure(ours, peer, SLOW, "slow", rounds(1, full=6))
    fifo, alone = "in order of arrival", "without a flood"
    p95, took = "s, p95 wait of small tenants", "s, the flood's time"
    keys, long = f"{NAME}_{MANY}_keys", f"{NAME}_slow_tasks"
    return [
        Answer(NAME, fifo, BEHIND_A_FLOOD, p95, one.waits, one.indices()),
        Answer(f"{NAME}_against_alone", alone, AGAINST_ALONE, p95, one.against_alone),
        Answer(f"{NAME}_of_the_flood", fifo, THE_FLOOD_ITSELF, took, one.floods),
        Answer(keys, fifo, BEHIND_A_FLOOD, p95, spread.waits, spread.indices()),
        Answer(long, fifo, BEHIND_A_FLOOD, p95, slow.waits, slow.indices()),
    ]


class Measured:
    """What the rounds of one flood came to."""

    def __init__(self) -> None:
        self.waits = Comparison()  # the small tenants' p95
        self.floods = Comparison()  # the flood's time
        self.against_alone = Comparison()  # the small tenants' p95, with fairness
        self.fairness: dict[Arm, list[float]] = {Arm.OURS: [], Arm.PEER: []}  # Jain's index

    def indices(self) -> dict[str, float]:
        """Jain's indices, for the answer."""
        return {
            "jain": median(self.fairness[Arm.OURS]),
            "jain_of_peer": median(self.fairness[Arm.PEER]),
        }


async def _measure(ours: Client, peer: Client, flood: Flood, name: str, times: int) -> Measured:
    measured = Measured()
    for number, order in enumerate(turns(times)):
        runs = {}
        for arm in order:
            client = ours if arm is Arm.OURS else peer
            runs[arm] = await _load(client, f"{name}-{number}", flood)
            measured.fairness[arm].append(runs[arm].fairness)
        alone = await _load(ours, f"{name}-{number}-alone", None)
        measured.waits.add({arm: run.p95 for arm, run in runs.items()})
        measured.floods.add({arm: run.flood_took for arm, run in runs.items()})
        measured.against_alone.add({Arm.OURS: runs[Arm.OURS].p95, Arm.PEER: alone.p95})
        tell(
            f"{NAME}: {name}, round {number + 1}: p95 {runs[Arm.OURS].p95:.2f} s fair, "
            f"{runs[Arm.PEER].p95:.2f} s in order of arrival, {alone.p95:.2f} s alone"
        )
    return measured


async def _load(client: Client, key: str, flood: Flood | None) -> Run:
    """Runs the flood, if any, and the small tenants behind it."""
    began = time.perf_counter()
    floods: list[Handle] = []
    if flood is not None:
        starts = (_start(client, one, key, flood.pieces, flood.seconds) for one in flood.tenants)
        floods = await asyncio.gather(*starts)
        await asyncio.gather(*map(_until_scheduled, floods))
    small = await asyncio.gather(*(_start(client, one, key, 1, ONE.seconds) for one in SMALL))
    await asyncio.gather(*(handle.result() for handle in floods))
    flood_took = time.perf_counter() - began
    await asyncio.gather(*(handle.result() for handle in small))
    served = log.taken()
    return Run(
        small_waits=[one.waited for one in served if one.tenant in SMALL],
        flood_took=flood_took,
        fairness=fairness_of(served, SMALL),
    )


async def _start(client: Client, tenant: str, key: str, pieces: int, seconds: float) -> Handle:
    return await client.start_workflow(
        Burst.run,
        BurstInput(tenant_id=tenant, pieces=pieces, piece=Piece(seconds=seconds)),
        id=f"{tenant}/bench.burst/{key}",
        task_queue=BURST_QUEUE,
    )


async def _until_scheduled(burst: Handle) -> None:
    # The server has no event for it.
    while not (await burst.describe()).raw_description.pending_activities:  # noqa: ASYNC110
        await asyncio.sleep(LOOK)


def fairness_of(served: Sequence[Served], small: Collection[str]) -> float:
    """Jain's index of what each tenant got while the small ones waited."""
    of_small = [one for one in served if one.tenant in small]
    first, last = max(one.scheduled for one in of_small), max(one.started for one in of_small)
    got = Counter(one.tenant for one in of_small)
    got.update(
        one.tenant for one in served if one.tenant not in small and first <= one.started <= last
    )
    return jain([got[tenant] for tenant in {one.tenant for one in served}])


def _worker(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=BURST_QUEUE,
        workflows=BURST_JOBS,
        activities=BURST_ACTIVITIES,
        activity_executor=ThreadPoolExecutor(SLOTS),
        max_concurrent_activities=SLOTS,
    )

"""How many children a second does a fan-out run with everything on, by bare temporalio's?

Ours is `FanOut` over 1,000 tenants of the control plane: plugin, guard, agreement, the state check
on the control plane, ledger, search attributes, fairness, summaries. It enumerates the tenants and
writes the ledger, and the time for both is in. The peer is what one writes in temporalio by hand:
a parent that gets the same 1,000 ids in its input, and keeps the same window of 100 children that
is refilled as each ends. A child is one no-op activity in both, with inputs of one size and ids of
one length; both have the sandbox, the pydantic converter, one worker of the SDK's default settings
and no eager activities. Logs are at WARNING in both.

A round runs each arm once, start to result. The value is the median over rounds of ours by the
peer's children a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from pydantic import BaseModel
from sqlalchemy.dialects.postgresql import insert
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.worker import Worker
from temporalio.workflow import ParentClosePolicy

from benchmarks.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.servers import Servers, bare_worker
from temporal_tenancy.activities import tenant_activity
from temporal_tenancy.control_plane.models import TenantRow
from temporal_tenancy.database import Database
from temporal_tenancy.directory import TenantStatus
from temporal_tenancy.fan_out import FanOut, FanOutInput
from temporal_tenancy.inputs import TenantInput
from temporal_tenancy.jobs import tenant_job

NAME: Final = "fan_out_throughput"
GOAL: Final = Goal(">=", 0.9)
TENANTS: Final = 1_000
WARM_UP_TENANTS: Final = 100
WINDOW: Final = 100  # children at once
OUR_QUEUE: Final = "bench-fan-out-ours"
BARE_QUEUE: Final = "bench-fan-out-bare"
OUR_JOB: Final = "bench.ours"
BARE_JOB: Final = "bench.bare"
TIMEOUT: Final = timedelta(minutes=1)


class Nothing(BaseModel):
    """What the no-op activity takes."""

    note: str = "none"


class OurInput(TenantInput):
    """What our child takes."""

    note: str = "none"


@tenant_activity
async def our_no_op(request: Nothing) -> str:
    """Does nothing, for a tenant."""
    return request.note


@tenant_job(OUR_JOB, queue=OUR_QUEUE)
class OurChild:
    """Does nothing for one tenant."""

    @workflow.run
    async def run(self, job: OurInput) -> str:
        """Runs the one activity."""
        return await workflow.execute_activity(
            our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


class BareInput(BaseModel):
    """What the peer's child takes."""

    tenant_id: str
    note: str = "none"


class BareFanOutInput(BaseModel):
    """What the peer's parent takes."""

    tick: str
    tenants: list[str]


@activity.defn
async def bare_no_op(request: Nothing) -> str:
    """Does nothing."""
    return request.note


@workflow.defn(name=BARE_JOB)
class BareChild:
    """Does nothing."""

    @workflow.run
    async def run(self, job: BareInput) -> str:
        """Runs the one activity."""
        return await workflow.execute_activity(
            bare_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@workflow.defn(name="bench.bare_fan_out")
class BareFanOut:
    """Keeps a window of children, refilled as each ends."""

    @workflow.run
    async def run(self, request: BareFanOutInput) -> int:
        """Returns how many children succeeded."""
        self._waiting = deque(request.tenants)
        self._tick = request.tick
        return sum(await asyncio.gather(*(self._fill_a_place() for _ in range(WINDOW))))

    async def _fill_a_place(self) -> int:
        done = 0
        while self._waiting:
            tenant = self._waiting.popleft()
            await workflow.execute_child_workflow(
                BareChild.run,
                BareInput(tenant_id=tenant),
                id=f"{tenant}/{BARE_JOB}/{self._tick}",
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
            done += 1
        return done


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 30 s a round on two cores."""
    urls = servers.new_database("fan_out")
    database = Database(platform_url=urls.platform)
    warm_up = [f"w{number:05}" for number in range(WARM_UP_TENANTS)]
    tenants = [f"t{number:05}" for number in range(TENANTS)]
    # On trial, so that a fan-out can choose them.
    await _add(database, warm_up, TenantStatus.TRIAL)
    await _add(database, tenants, TenantStatus.ACTIVE)
    ours, bare = await servers.our_client(database), await servers.bare_client()
    comparison = Comparison()
    try:
        async with (
            Worker(ours, task_queue=OUR_QUEUE, workflows=[OurChild], activities=[our_no_op]),
            bare_worker(
                bare,
                task_queue=BARE_QUEUE,
                workflows=[BareFanOut, BareChild],
                activities=[bare_no_op],
            ),
        ):
            await _run_ours(ours, "warm-up", TenantStatus.TRIAL, len(warm_up))
            await _run_bare(bare, "warm-up", warm_up)
            for number, order in enumerate(turns(rounds(4, full=10))):
                measured: dict[Arm, float] = {}
                for arm in order:
                    if arm is Arm.OURS:
                        measured[arm] = await _run_ours(
                            ours, f"tick-{number}", TenantStatus.ACTIVE, len(tenants)
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


async def _add(database: Database, tenants: Sequence[str], status: TenantStatus) -> None:
    rows = [
        {"id": tenant, "name": tenant, "status": status, "plan_id": "standard"}
        for tenant in tenants
    ]
    async with database.platform_session("make up tenants") as session:
        await session.execute(insert(TenantRow), rows)


async def _run_ours(client: Client, tick: str, status: TenantStatus, tenants: int) -> float:
    began = time.perf_counter()
    result = await client.execute_workflow(
        FanOut.run,
        FanOutInput(job=OUR_JOB, tick=tick, statuses=[status], window=WINDOW),
        id=f"platform/{OUR_JOB}/{tick}",
        task_queue=OUR_QUEUE,
    )
    took = time.perf_counter() - began
    assert result.succeeded == tenants, result
    return tenants / took


async def _run_bare(client: Client, tick: str, tenants: list[str]) -> float:
    began = time.perf_counter()
    succeeded = await client.execute_workflow(
        BareFanOut.run,
        BareFanOutInput(tick=tick, tenants=tenants),
        id=f"platform/{BARE_JOB}/{tick}",
        task_queue=BARE_QUEUE,
    )
    took = time.perf_counter() - began
    assert succeeded == len(tenants), succeeded
    return len(tenants) / took

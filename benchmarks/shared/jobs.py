"""The workflows of both arms: as a tenant's jobs, and in bare temporalio."""

from __future__ import annotations

import asyncio
from collections import deque

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.workflow import ParentClosePolicy

from benchmarks.shared.no_op import (
    OUR_QUEUE,
    STEPS,
    STUCK,
    STUCK_TIMEOUT,
    TIMEOUT,
    WINDOW,
    Nothing,
    bare_no_op,
    is_stuck,
    our_no_op,
)
from temporal_tenancy import TenantInput, tenant_job


class OurInput(TenantInput):
    """What our jobs take."""

    note: str = "none"


class BareInput(BaseModel):
    """What the peer's workflows take."""

    tenant_id: str
    note: str = "none"


@tenant_job("bench.ours", queue=OUR_QUEUE)
class OurChild:
    """Does nothing for one tenant."""

    @workflow.run
    async def run(self, job: OurInput) -> str:
        """Runs the one activity."""
        return await workflow.execute_activity(
            our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@tenant_job("bench.stuck", queue=OUR_QUEUE, execution_timeout=STUCK_TIMEOUT)
class StuckChild:
    """Does nothing for one tenant; of a hundred tenants one never answers, where that is asked."""

    @workflow.run
    async def run(self, job: OurInput) -> str:
        """Runs the one activity, or waits until the job's timeout."""
        if job.note == STUCK and is_stuck(job.tenant_id):
            await workflow.wait_condition(lambda: False)
        return await workflow.execute_activity(
            our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@tenant_job("bench.our_steps", queue=OUR_QUEUE)
class OurSteps:
    """Does nothing for one tenant, many times."""

    @workflow.run
    async def run(self, job: OurInput) -> None:
        """Runs the activities one after the other."""
        for _ in range(STEPS):
            await workflow.execute_activity(
                our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
            )


@workflow.defn(name="bench.bare")
class BareChild:
    """Does nothing."""

    @workflow.run
    async def run(self, job: BareInput) -> str:
        """Runs the one activity."""
        return await workflow.execute_activity(
            bare_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@workflow.defn(name="bench.bare_steps")
class BareSteps:
    """Does nothing, many times."""

    @workflow.run
    async def run(self, job: BareInput) -> None:
        """Runs the activities one after the other."""
        for _ in range(STEPS):
            await workflow.execute_activity(
                bare_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
            )


class BareFanOutInput(BaseModel):
    """What the peer's parent takes."""

    tick: str
    tenants: list[str]


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
                id=f"{tenant}/bench.bare/{self._tick}",
                # As the fan-out starts its children.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
            done += 1
        return done


OUR_JOBS = [OurChild, OurSteps, StuckChild]
BARE_WORKFLOWS = [BareFanOut, BareChild, BareSteps]

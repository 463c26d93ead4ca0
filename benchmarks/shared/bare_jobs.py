"""The workflows of the peer's arm, in bare temporalio."""

from __future__ import annotations

import asyncio
from collections import deque

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.workflow import ParentClosePolicy

from benchmarks.shared.no_op import STEPS, TIMEOUT, WINDOW, Nothing, bare_no_op
from benchmarks.shared.own_fields import own_fields

JOB = "bench.bare"


class BareInput(BaseModel):
    """Input of the peer's workflows."""

    tenant_id: str
    note: str = "none"


@workflow.defn(name=JOB)
class BareChild:
    """Runs one no-op activity."""

    @workflow.run
    async def run(self, job: BareInput) -> str:
        """Runs the activity."""
        return await workflow.execute_activity(
            bare_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@workflow.defn(name="bench.bare_steps")
class BareSteps:
    """Runs many no-op activities."""

    @workflow.run
    async def run(self, job: BareInput) -> None:
        """Runs the activities one after the other."""
        for _ in range(STEPS):
            await workflow.execute_activity(
                bare_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
            )


class BareFanOutInput(BaseModel):
    """Input of the peer's parent."""

    tick: str
    tenants: list[str]
    same_fields: bool = False  # whether children get the fields by which ours are found and served


@workflow.defn(name="bench.bare_fan_out")
class BareFanOut:
    """Keeps a window of children, refilled as each ends."""

    @workflow.run
    async def run(self, request: BareFanOutInput) -> int:
        """Runs all children; returns how many succeeded."""
        self._waiting = deque(request.tenants)
        self._tick = request.tick
        self._same_fields = request.same_fields
        return sum(await asyncio.gather(*(self._fill_a_place() for _ in range(WINDOW))))

    async def _fill_a_place(self) -> int:
        done = 0
        while self._waiting:
            tenant = self._waiting.popleft()
            await workflow.execute_child_workflow(
                BareChild.run,
                BareInput(tenant_id=tenant),
                id=f"{tenant}/bench.bare/{self._tick}",
                # The same policies as the fan-out's children.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                parent_close_policy=ParentClosePolicy.ABANDON,
                **(own_fields(tenant, JOB, self._tick) if self._same_fields else {}),
            )
            done += 1
        return done


BARE_WORKFLOWS = [BareFanOut, BareChild, BareSteps]

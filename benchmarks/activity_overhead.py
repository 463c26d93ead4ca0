"""How long does a no-op activity take with the interceptors, by how long without?

A workflow runs 50 no-op activities one after the other. What an activity costs such a workflow is
the time from its scheduling to the scheduling of the next: dispatch, the worker's interceptors
inward and outward, the activity, its result on the way back, and the workflow task that goes on
from it. These are consecutive `ActivityTaskScheduled` events of the history, both stamped by the
server's one clock, so nothing is measured from inside a workflow, where time stands still.

Ours has the plugin: guard, agreement, header, the state check on the control plane's cached
directory, scope. The peer is temporalio alone with its pydantic converter; sandbox, settings and
inputs are the same, and eager activities are off in both.

A round runs the workflow once in each arm, and takes the p50 of each arm's activities. The value
is the median over rounds of ours by the peer's p50.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from statistics import median
from typing import Any, Final

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.worker import Worker

from benchmarks.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.servers import Servers, bare_worker
from temporal_tenancy.activities import tenant_activity
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.database import Database
from temporal_tenancy.inputs import TenantInput
from temporal_tenancy.jobs import tenant_job

NAME: Final = "activity_overhead"
GOAL: Final = Goal("<=", 1.2)
ACTIVITIES: Final = 50  # a run
TENANT: Final = "acme"
OUR_QUEUE: Final = "bench-activity-ours"
BARE_QUEUE: Final = "bench-activity-bare"
OUR_JOB: Final = "bench.our_steps"
BARE_JOB: Final = "bench.bare_steps"
TIMEOUT: Final = timedelta(minutes=1)


class Nothing(BaseModel):
    """What the no-op activity takes."""

    note: str = "none"


class OurInput(TenantInput):
    """What our workflow takes."""


class BareInput(BaseModel):
    """What the peer's workflow takes."""

    tenant_id: str


@tenant_activity
async def our_step(request: Nothing) -> str:
    """Does nothing, for a tenant."""
    return request.note


@activity.defn
async def bare_step(request: Nothing) -> str:
    """Does nothing."""
    return request.note


@tenant_job(OUR_JOB, queue=OUR_QUEUE)
class OurSteps:
    """Runs no-op activities for one tenant."""

    @workflow.run
    async def run(self, job: OurInput) -> None:
        """One after the other."""
        for _ in range(ACTIVITIES):
            await workflow.execute_activity(our_step, Nothing(), start_to_close_timeout=TIMEOUT)


@workflow.defn(name=BARE_JOB)
class BareSteps:
    """Runs no-op activities."""

    @workflow.run
    async def run(self, job: BareInput) -> None:
        """One after the other."""
        for _ in range(ACTIVITIES):
            await workflow.execute_activity(bare_step, Nothing(), start_to_close_timeout=TIMEOUT)


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about a second a round."""
    urls = servers.new_database("activity")
    database = Database(platform_url=urls.platform)
    await Tenants(database).add(TENANT, "Acme", plan="standard")
    ours, bare = await servers.our_client(database), await servers.bare_client()
    comparison = Comparison()

    async def run(arm: Arm, key: str) -> float:
        """The p50 of the run's activities, in milliseconds."""
        handle: WorkflowHandle[Any, None]
        if arm is Arm.OURS:
            handle = await ours.start_workflow(
                OurSteps.run,
                OurInput(tenant_id=TENANT),
                id=f"{TENANT}/{OUR_JOB}/{key}",
                task_queue=OUR_QUEUE,
            )
        else:
            handle = await bare.start_workflow(
                BareSteps.run,
                BareInput(tenant_id=TENANT),
                id=f"{TENANT}/{BARE_JOB}/{key}",
                task_queue=BARE_QUEUE,
            )
        await handle.result()
        return median(await _between_activities(handle)) * 1000

    try:
        async with (
            Worker(ours, task_queue=OUR_QUEUE, workflows=[OurSteps], activities=[our_step]),
            bare_worker(bare, task_queue=BARE_QUEUE, workflows=[BareSteps], activities=[bare_step]),
        ):
            for number, order in enumerate(turns(2)):
                for arm in order:
                    await run(arm, f"warm-up-{number}")
            for number, order in enumerate(turns(rounds(30, full=100))):
                comparison.add({arm: await run(arm, f"round-{number}") for arm in order})
                if (number + 1) % 10 == 0:
                    tell(
                        f"{NAME}: {number + 1} rounds: ours {median(comparison.ours):.2f}, "
                        f"bare {median(comparison.peer):.2f} ms"
                    )
    finally:
        await database.dispose()
    peer = "a no-op activity of bare temporalio"
    return [Answer(NAME, peer, GOAL, "ms, p50 of an activity", comparison)]


async def _between_activities(handle: WorkflowHandle[Any, Any]) -> list[float]:
    """Seconds from each activity's scheduling to the next's, by the server's clock."""
    scheduled = [
        event.event_time.ToNanoseconds()
        async for event in handle.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert len(scheduled) == ACTIVITIES
    return [(later - earlier) / 1e9 for earlier, later in pairwise(scheduled)]

"""How long does a no-op activity take with the interceptors, compared with bare temporalio?

A workflow runs 40 no-op activities one after the other. An activity's cost is the time from its
scheduling to the scheduling of the next one: dispatch, the worker's inbound and outbound
interceptors, the activity itself, its result, and the workflow task that follows. It is read from
consecutive `ActivityTaskScheduled` events of the history, which the server's clock stamps, because
time does not pass inside a workflow.

Ours: with the plugin, that is, guard, agreement, header, the state check on the control plane's
cached directory, and scope. Peer: temporalio alone with its pydantic converter; sandbox, settings
and inputs are the same, and eager activities are off in both.

A round runs the workflow once in each arm, and takes the p50 of its activities. The value is the
median over rounds of ours divided by the peer's p50.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final

from temporalio.client import WorkflowHandle

from benchmarks.shared.bare_jobs import BareInput, BareSteps
from benchmarks.shared.jobs import OurInput, OurSteps
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.no_op import BARE_QUEUE, OUR_QUEUE, STEPS
from benchmarks.shared.servers import Servers, bare_worker, our_worker
from temporal_tenancy import Database
from temporal_tenancy.control_plane import Tenants

NAME: Final = "activity_overhead"
GOAL: Final = Goal("<=", 1.2)
# By default the server polls for tasks 20 times per second and shard, and a dev server has one
# shard, so that consecutive activities would take 100 ms each, whatever their cost.
TEMPORAL_CONFIG: Final = {"history.transferProcessorMaxPollRPS": "1000"}
TENANT: Final = "acme"


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about a second per round."""
    urls = servers.new_database("activity")
    database = Database(platform_url=urls.platform)
    await Tenants(database).add(TENANT, "Acme", plan="standard")
    ours, bare = await servers.our_client(database), await servers.bare_client()
    comparison = Comparison()

    async def run(arm: Arm, key: str) -> float:
        """Runs one workflow; returns the p50 of its activities, in milliseconds."""
        handle: WorkflowHandle[Any, None]
        if arm is Arm.OURS:
            handle = await ours.start_workflow(
                OurSteps.run,
                OurInput(tenant_id=TENANT),
                id=f"{TENANT}/bench.our_steps/{key}",
                task_queue=OUR_QUEUE,
            )
        else:
            handle = await bare.start_workflow(
                BareSteps.run,
                BareInput(tenant_id=TENANT),
                id=f"{TENANT}/bench.bare_steps/{key}",
                task_queue=BARE_QUEUE,
            )
        await handle.result()
        return median(await _between_activities(handle)) * 1000

    try:
        async with our_worker(ours), bare_worker(bare):
            for number, order in enumerate(turns(2)):
                for arm in order:
                    await run(arm, f"warm-up-{number}")
            for number, order in enumerate(turns(rounds(24, full=100))):
                comparison.add({arm: await run(arm, f"round-{number}") for arm in order})
                if (number + 1) % 8 == 0:
                    tell(
                        f"{NAME}: {number + 1} rounds: ours {median(comparison.ours):.2f}, "
                        f"bare {median(comparison.peer):.2f} ms"
                    )
    finally:
        await database.dispose()
    peer = "a no-op activity of bare temporalio"
    return [Answer(NAME, peer, GOAL, "ms, p50 of an activity", comparison)]


async def _between_activities(handle: WorkflowHandle[Any, Any]) -> list[float]:
    """Returns the seconds from each activity's scheduling to the next, by the server's clock."""
    scheduled = [
        event.event_time.ToNanoseconds()
        async for event in handle.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert len(scheduled) == STEPS
    return [(later - earlier) / 1e9 for earlier, later in pairwise(scheduled)]

"""Which workers poll a task queue now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.sdk.throttling import unthrottled

# An idle worker polls again after a long poll of a minute. The server remembers for 5 minutes.
POLLED_WITHIN: Final = timedelta(seconds=75)
RPC_TIMEOUT: Final = timedelta(seconds=5)
AT_ONCE: Final = 8  # requests to the server
KINDS: Final = {
    "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
}


class Polled(NamedTuple):
    """What a worker polls: a task queue, for tasks of one kind."""

    queue: str
    kind: str  # of `KINDS`


def recent(
    pollers: Iterable[PollerInfo], within: timedelta = POLLED_WITHIN
) -> Sequence[PollerInfo]:
    """Returns the workers that have polled lately."""
    oldest = datetime.now(UTC) - within
    return [each for each in pollers if each.last_access_time.ToDatetime(UTC) > oldest]


async def described(
    client: Client,
    queue: str,
    kind: str,
    *,
    report_stats: bool = False,
    rpc_timeout: timedelta | None = RPC_TIMEOUT,
) -> DescribeTaskQueueResponse:
    """Returns what the server says of a task queue, for tasks of a kind of `KINDS`."""
    return await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=KINDS[kind],
            report_stats=report_stats,
        ),
        timeout=rpc_timeout,
    )


async def pollers_of(
    client: Client,
    queue: str,
    kind: str,
    *,
    within: timedelta = POLLED_WITHIN,
    rpc_timeout: timedelta | None = RPC_TIMEOUT,
) -> Sequence[PollerInfo]:
    """Returns the workers that have lately polled a task queue, for tasks of a kind of `KINDS`."""
    return recent((await described(client, queue, kind, rpc_timeout=rpc_timeout)).pollers, within)


async def workers_of(
    client: Client,
    version: WorkerDeploymentVersion,
    polled: Iterable[Polled],
    *,
    within: timedelta = POLLED_WITHIN,
) -> dict[Polled, frozenset[str]]:
    """Returns the identities of a version's workers that poll now, by what they poll.

    Args:
        client: of the namespace.
        version: of the workers.
        polled: what to ask for.
        within: how long ago a worker that still runs has polled at most.

    Raises:
        RPCError: the server does not answer.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(what: Polled) -> frozenset[str]:
        async with gate:
            pollers = await unthrottled(
                partial(pollers_of, client, what.queue, what.kind, within=within)
            )
        return frozenset(
            each.identity
            for each in pollers
            if each.deployment_options.deployment_name == version.deployment_name
            and each.deployment_options.build_id == version.build_id
        )

    asked = sorted(set(polled))
    found = await asyncio.gather(*(ask(what) for what in asked))
    return dict(zip(asked, found, strict=True))


async def unserved(
    client: Client,
    version: WorkerDeploymentVersion,
    polled: Iterable[Polled],
    *,
    within: timedelta = POLLED_WITHIN,
) -> Sequence[Polled]:
    """Returns what no worker of a version polls now, in order; see `workers_of`."""
    found = await workers_of(client, version, polled, within=within)
    return [what for what, identities in found.items() if not identities]


def words(polled: Iterable[Polled]) -> str:
    """Names task queues: `the task queue bulk for workflows and activities`."""
    kinds: dict[str, list[str]] = {}
    for queue, kind in polled:
        kinds.setdefault(queue, []).append("workflows" if kind == "workflow" else "activities")
    named = [
        f"{queue} for {' and '.join(sorted(found, reverse=True))}" for queue, found in kinds.items()
    ]
    return f"the {'task queue' if len(named) == 1 else 'task queues'} {', '.join(named)}"

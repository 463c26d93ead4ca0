"""Looks for workers of a task queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from temporal_tenancy.cli.program import current_application, current_program

# An idle worker polls again after a long poll of a minute. The server remembers for 5 minutes.
SEEN_WITHIN: Final = timedelta(seconds=75)
KINDS: Final = (
    TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
)


async def has_worker(client: Client, queue: str) -> bool:
    """Returns whether workers have polled `queue` lately, for workflows and for activities."""
    return all([await pollers(client, queue, kind) for kind in KINDS])


async def pollers(client: Client, queue: str, kind: TaskQueueType.ValueType) -> set[str]:
    """Returns the identities of the workers that have lately polled `queue` for tasks of `kind`."""
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=kind,
        )
    )
    oldest = datetime.now(UTC) - SEEN_WITHIN
    return {
        poller.identity
        for poller in described.pollers
        if poller.last_access_time.ToDatetime(UTC) > oldest
    }


def no_worker(queue: str) -> str:
    """Returns the sentence for a queue without workers."""
    sentence = f'no worker serves the queue "{queue}".'
    command = current_application().worker
    if command is None:
        return sentence
    start = command.format(queue=queue, program=current_program().name)
    return f'{sentence} Start one: "{start}".'

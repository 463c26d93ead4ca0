"""A probe of whether a Temporal server orders backlogs fairly, since no API says so.

A server with fairness off accepts the fairness key and silently ignores it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean
from typing import Final

from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import Command, ScheduleActivityTaskCommandAttributes
from temporalio.api.common.v1 import (
    ActivityType,
    Priority,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.common.v1 import RetryPolicy as RetryPolicyProto
from temporalio.api.enums.v1 import CommandType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.words import duration

JOB: Final = "fairness.probe"
HOW_TO_TURN_ON: Final = (
    "Set matching.enableFairness=true in the server's dynamic config (in Temporal Cloud: turn "
    "Fairness on for the namespace)"
)
FIRST: Final = 400  # tasks of the key that is queued first
SECOND: Final = 40  # tasks of the key that is queued after it
# The mean rank of the second key's tasks, as a fraction of the whole. Measured in 50 tries each:
# on a queue of 4 partitions 0.12 to 0.31 with fairness and 0.67 to 0.91 without; on one partition
# 0.09 and 0.95. With a tenth of the tasks the ranges would overlap.
FAIR_BELOW: Final = 0.5
AGREEING: Final = 2  # tries that decide, of at most three
POLL_TIMEOUT: Final = timedelta(seconds=3)  # the server rejects shorter polls
EMPTY_POLLS: Final = 3  # in a row, before the probe gives up on more tasks
TIMEOUT: Final = timedelta(seconds=30)  # for one try
CLEAN_UP_TIMEOUT: Final = timedelta(seconds=2)
LIFETIME: Final = timedelta(seconds=60)  # after which the server ends what a killed process left

log: Final = logging.getLogger(__name__)


class ProbeFailed(Exception):
    """The probe did not finish, so it is not known whether fairness is on."""


@dataclass(frozen=True)
class Fairness:
    """The result of a probe."""

    share: float  # of the backlog served before the second key's tasks, on average; 0 to 1

    @property
    def on(self) -> bool:
        """Whether backlogs are ordered fairly."""
        return self.share < FAIR_BELOW

    @property
    def message(self) -> str:
        """The result in words, and what to do if fairness is off."""
        if self.on:
            return "a tenant's backlog does not hold up the others': fairness is on."
        return f"one tenant's backlog holds up all others': fairness is off. {HOW_TO_TURN_ON}."


async def probe(
    client: Client, *, poll_timeout: timedelta = POLL_TIMEOUT, within: timedelta = TIMEOUT
) -> Fairness:
    """Queues the tasks of one key, then those of another, and compares when each is served.

    A try takes about 1 s. It runs one workflow on its own task queue and terminates it at the end,
    so one closed run stays in the namespace. On a very busy server a single try may be wrong either
    way, so two that agree decide, of at most three.

    Args:
        client: a client of the namespace to probe.
        poll_timeout: how long one poll waits for a task.
        within: how long one try may take.

    Raises:
        ProbeFailed: a try took longer, or the queue kept tasks back.
        RPCError: the server does not answer, or does not allow it.
    """
    results: list[Fairness] = []
    while (decided := decision(results)) is None:
        results.append(await _try(client, poll_timeout, within))
    return decided


def decision(results: Sequence[Fairness]) -> Fairness | None:
    """Returns the last of the first two tries that agree; None if no two do yet."""
    for on in (True, False):
        agreeing = [result for result in results if result.on is on]
        if len(agreeing) >= AGREEING:
            return agreeing[AGREEING - 1]
    return None


async def _try(client: Client, poll_timeout: timedelta, within: timedelta) -> Fairness:
    run = _Probe(client, poll_timeout)
    began, waits_for = time.monotonic(), "start its workflow"
    try:
        async with asyncio.timeout(within.total_seconds()):
            await run.start()
            waits_for = f"queue its {FIRST + SECOND} tasks"
            await run.queue_tasks()
            waits_for = "hand out its tasks"
            order = await run.order()
    except (TimeoutError, RPCError) as error:
        if isinstance(error, RPCError) and error.status is not RPCStatusCode.DEADLINE_EXCEEDED:
            raise
        waited = duration(timedelta(seconds=time.monotonic() - began))
        raise ProbeFailed(
            f"the server did not {waits_for} within {waited}: it is busy, or hangs."
        ) from None
    finally:
        await asyncio.shield(run.clean_up())
    return Fairness(mean_rank(order))


def mean_rank(order: Sequence[bool]) -> float:
    """Returns the mean rank of the True items, as a fraction (0 to 1) of the number of tasks.

    Items after the last True one may be left out.

    Raises:
        ProbeFailed: there are fewer than 40 (`SECOND`) True items.
    """
    late = [rank for rank, is_late in enumerate(order) if is_late]
    if len(late) < SECOND:
        raise ProbeFailed(f"only {len(order)} of {FIRST + SECOND} tasks came back.")
    return fmean(late) / (FIRST + SECOND)


class _Probe:
    """One try. It sends raw requests, which bypass the client's interceptors."""

    def __init__(self, client: Client, poll_timeout: timedelta) -> None:
        name = uuid.uuid4().hex[:12]
        self.poll_timeout = poll_timeout
        self.client = client
        self.service = client.workflow_service
        self.id = str(WorkflowId(PLATFORM, JOB, name))
        self.queue = TaskQueue(name=f"fairness-probe-{name}")

    async def start(self) -> None:
        await self.service.start_workflow_execution(
            StartWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_id=self.id,
                workflow_type=WorkflowType(name=JOB),
                task_queue=self.queue,
                workflow_execution_timeout=_duration(LIFETIME),
                workflow_task_timeout=_duration(LIFETIME),
                identity=self.client.identity,
                request_id=uuid.uuid4().hex,
            )
        )

    async def queue_tasks(self) -> None:
        """Schedules the tasks of the first key, then those of the second.

        Each time it asks for another workflow task: the server queues that one after the
        activities that were scheduled with it, so once it arrives they are queued.
        """
        await self._schedule(await self._workflow_task(), key="first", count=FIRST)
        await self._schedule(await self._workflow_task(), key="second", count=SECOND)
        await self._workflow_task()

    async def order(self) -> list[bool]:
        """Polls the tasks one by one until all of the second key have come, which are True."""
        order: list[bool] = []
        empty = 0
        while sum(order) < SECOND and empty < EMPTY_POLLS:
            # No task needs an answer: terminating the workflow closes them.
            task = await self.service.poll_activity_task_queue(
                PollActivityTaskQueueRequest(
                    namespace=self.client.namespace,
                    task_queue=self.queue,
                    identity=self.client.identity,
                ),
                timeout=self.poll_timeout,
            )
            if task.task_token:
                empty = 0
                order.append(task.activity_type.name == "second")
            else:
                empty += 1
        return order

    async def clean_up(self) -> None:
        try:
            await self.service.terminate_workflow_execution(
                TerminateWorkflowExecutionRequest(
                    namespace=self.client.namespace,
                    workflow_execution=WorkflowExecution(workflow_id=self.id),
                    reason="the probe has ended",
                    identity=self.client.identity,
                ),
                timeout=CLEAN_UP_TIMEOUT,
            )
        except RPCError as error:
            # Not found means that it never started. Otherwise its execution timeout ends it: nobody
            # need do anything, so that no command shows it.
            if error.status is not RPCStatusCode.NOT_FOUND:
                log.info("fairness.probe_left", extra={"workflow_id": self.id})

    async def _workflow_task(self) -> bytes:
        token = b""
        while not token:
            task = await self.service.poll_workflow_task_queue(
                PollWorkflowTaskQueueRequest(
                    namespace=self.client.namespace,
                    task_queue=self.queue,
                    identity=self.client.identity,
                ),
                timeout=self.poll_timeout,
            )
            token = task.task_token
        return token

    async def _schedule(self, token: bytes, *, key: str, count: int) -> None:
        await self.service.respond_workflow_task_completed(
            RespondWorkflowTaskCompletedRequest(
                namespace=self.client.namespace,
                task_token=token,
                identity=self.client.identity,
                commands=[self._activity(key, number) for number in range(count)],
                force_create_new_workflow_task=True,
            )
        )

    def _activity(self, key: str, number: int) -> Command:
        return Command(
            command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
            schedule_activity_task_command_attributes=ScheduleActivityTaskCommandAttributes(
                activity_id=f"{key}-{number}",
                activity_type=ActivityType(name=key),
                task_queue=self.queue,
                schedule_to_close_timeout=_duration(LIFETIME),
                retry_policy=RetryPolicyProto(maximum_attempts=1),
                priority=Priority(fairness_key=key),
            ),
        )


def _duration(length: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(length)
    return duration

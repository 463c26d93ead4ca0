"""Jobs that differ in their priority, one that floods, and one that needs no activity."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from saas.queues import Queue
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import JobPriority, tenant_job
from tests.queue_control import Turn, take_turn


class TurnInput(TenantInput):
    name: str = "one"
    count: int = 1
    holds: bool = False


async def take_turns(job: TurnInput) -> None:
    await asyncio.gather(
        *(
            workflow.execute_activity(
                take_turn,
                Turn(name=job.name, holds=job.holds),
                start_to_close_timeout=timedelta(seconds=60),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
            for _ in range(job.count)
        )
    )


@tenant_job("test.urgent", queue=Queue.BULK, priority=JobPriority.URGENT)
class Urgent:
    """Goes before the others that wait."""

    @workflow.run
    async def run(self, job: TurnInput) -> None:
        await take_turns(job)


@tenant_job("test.usual", queue=Queue.BULK)
class Usual:
    """Has no priority of its own."""

    @workflow.run
    async def run(self, job: TurnInput) -> None:
        await take_turns(job)


@tenant_job("test.idle", queue=Queue.BULK, priority=JobPriority.IDLE)
class Idle:
    """Goes behind the others that wait."""

    @workflow.run
    async def run(self, job: TurnInput) -> None:
        await take_turns(job)


@tenant_job("test.at_once", queue=Queue.BULK)
class AtOnce:
    """Is done when its first task is."""

    @workflow.run
    async def run(self, job: TurnInput) -> None:
        return


WORKFLOWS = [Urgent, Usual, Idle, AtOnce]

"""Jobs whose effects can be counted and traced to their requester."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from saas.database.audit import record
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import Coalesce, tenant_job
from temporal_tenancy.outbox import current_event_id, current_event_ids, once, once_each
from temporal_tenancy.postgres.database import tenant_session

ALONE: Final = "test.counted"
TOGETHER: Final = "test.counted_together"
AT_ONCE: Final = "test.counted_at_once"
EFFECT: Final = "counted"  # in the audit log
WORK_SECONDS: Final = 0.03  # before and after the effect, to leave time to die in

REFUSE: Final = "refuse"
GARBLE: Final = "garble"
DIE: Final = "die"


class Counted(TenantInput):
    """What is to be counted."""

    owner: str  # who asks, in words that nothing but the message carries
    how: str = ""  # it fails; empty: it does not


@tenant_activity
async def count_alone(job: Counted) -> None:
    """Writes its effect once per message."""
    await _count(job, ALONE)


@tenant_activity
async def count_together(job: Counted) -> None:
    """Like `count_alone`, for messages that are handled with others."""
    await _count(job, TOGETHER)


@tenant_activity
async def count_at_once(jobs: list[Counted]) -> None:
    """Like `count_together`, for messages that are handled in one transaction."""
    await asyncio.sleep(WORK_SECONDS)
    if any(job.how == DIE for job in jobs):
        os._exit(1)
    async with tenant_session() as session:
        new = await once_each(session, AT_ONCE, current_event_ids())
        for job, event_id in zip(jobs, current_event_ids(), strict=True):
            if event_id in new:
                await record(session, EFFECT, f"{AT_ONCE}/{event_id}", owner=job.owner)
        for job in jobs:
            _fail_if_asked(job)
    await asyncio.sleep(WORK_SECONDS)


def _fail_if_asked(job: Counted) -> None:
    if job.how == REFUSE:
        raise ApplicationError("this is not counted.", type="NotCounted", non_retryable=True)
    if job.how == GARBLE:
        raise ApplicationError("a NUL: \x00", type="Garbled", non_retryable=True)


async def _count(job: Counted, name: str) -> None:
    await asyncio.sleep(WORK_SECONDS)
    if job.how == DIE:
        os._exit(1)
    _fail_if_asked(job)
    async with tenant_session() as session:
        if await once(session, name, current_event_id()):
            await record(session, EFFECT, f"{name}/{current_event_id()}", owner=job.owner)
    await asyncio.sleep(WORK_SECONDS)


_PATIENT: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(seconds=5),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=0.2),
        maximum_interval=timedelta(seconds=1),
        maximum_attempts=100,
    ),
}


@tenant_job(ALONE, queue="bulk", waits_out_suspension=True)
class CountAlone:
    """Counts one message."""

    @workflow.run
    async def run(self, job: Counted) -> None:
        """Counts it."""
        await workflow.execute_activity(count_alone, job, **_PATIENT)


@tenant_job(TOGETHER, queue="bulk", coalesce=Coalesce(30, count_together, parallel=5))
class CountTogether:
    """Counts one message, which others are worked off with."""

    @workflow.run
    async def run(self, job: Counted) -> None:
        """Counts it."""
        await workflow.execute_activity(count_together, job, **_PATIENT)


@tenant_job(AT_ONCE, queue="bulk", coalesce=Coalesce(30, count_at_once, together=True))
class CountAtOnce:
    """Counts one message, which others are worked off with in one transaction."""

    @workflow.run
    async def run(self, job: Counted) -> None:
        """Counts it."""
        await workflow.execute_activity(count_at_once, [job], **_PATIENT)


WORKFLOWS: list[type] = [CountAlone, CountTogether, CountAtOnce]
ACTIVITIES: list[Any] = [count_alone, count_together, count_at_once]

"""Handles several messages of one tenant and one job in one workflow.

A small job costs less than its own workflow would. Here a hundred of them share one workflow and
one activity, while each message keeps its own outcome, attempts, key and dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.errors import InvalidPayload, TenancyError
from temporal_tenancy.core.inputs import TenantJobInput, read_input
from temporal_tenancy.core.jobs import Job, job_of, registry, tenant_job
from temporal_tenancy.core.payloads import read_message
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox import _working as working
from temporal_tenancy.outbox._events import use_event_id
from temporal_tenancy.outbox.marks import Marks, failed
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.heartbeats import heartbeating

MARK_AT_ONCE: Final = 100  # marks written in one transaction
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=20)

log: Final = logging.getLogger(__name__)


class WorkOff(TenantJobInput):
    """The messages of one job that one workflow handles."""

    message_ids: list[UUID]
    retries: RetryLadder


class WorkedOff(BaseModel):
    """How many messages this attempt marked, by outcome."""

    completed: int = 0
    failed: int = 0  # will be retried
    dead_letters: int = 0


class WorkerLost(TenancyError):
    """The worker died each time it handled this message."""


@tenant_activity
@heartbeating()
async def work_off_messages(batch: WorkOff) -> WorkedOff:
    """Calls the job's handler for each message, several in parallel, and marks the outcomes.

    Skips messages that an earlier attempt has marked. After a first attempt that did not finish,
    the rest are handled one by one: each attempt is counted before it begins, and marked before the
    next one. So only the message that kills the process runs out of attempts.
    """
    job = registry.get_or_raise(batch.job)
    if job.coalesce is None:
        raise InvalidPayload(f"{job.name} does not coalesce its messages.")
    workflow_id = str(activity.info().workflow_id)
    async with tenant_session() as session:
        messages = await working.load(session, batch.message_ids, workflow_id)
    one_by_one = activity.info().attempt > 1
    marks = _MarkBuffer(workflow_id, limit=1 if one_by_one else MARK_AT_ONCE)
    slots = asyncio.Semaphore(1 if one_by_one else job.coalesce.parallel)

    async def work(message: Message) -> None:
        async with slots:
            if one_by_one:
                async with tenant_session() as session:
                    message = await working.begin_again(session, message, workflow_id)
                if message.attempts > batch.retries.attempts:
                    lost = WorkerLost(
                        f"the worker died {number(message.attempts - 1, 'time')} handling it."
                    )
                    await marks.add(Marks(failed=[failed(message, lost, batch.retries)]))
                    return
            await marks.add(await _outcome(job, message, batch.retries))

    await asyncio.gather(*map(work, messages))
    await marks.write()
    return marks.report


async def _outcome(job: Job, message: Message, retries: RetryLadder) -> Marks:
    """Calls the job's handler for one message; returns the message's mark."""
    assert job.coalesce is not None
    what = f"the payload of {job.name}"
    try:
        values = read_message(message.payload, what=what)
        if not isinstance(values, dict):
            raise InvalidPayload(f"{what} must be a JSON object.")
        values["tenant_id"] = current_tenant()
        job_input = read_input(job.input_model, values, what=what)
        with use_event_id(message.key):
            await job.coalesce.handler(job_input)
    except Exception as error:  # one message's failure must not affect the others
        failure = failed(message, error, retries)
        if failure.is_dead:
            log.warning(
                "message.dead",
                extra={
                    "job": job.name,
                    "message_id": str(message.id),
                    "attempt": message.attempts,
                    "error_type": type(error).__name__,
                },
            )
        else:
            log.warning(
                "message.failed",
                extra={
                    "job": job.name,
                    "message_id": str(message.id),
                    "attempt": message.attempts,
                    "error_type": type(error).__name__,
                },
            )
        return Marks(failed=[failure])
    return Marks(completed=[message])


class _MarkBuffer:
    """Collects marks, writes them in batches, and counts them."""

    def __init__(self, workflow_id: str, *, limit: int) -> None:
        self.report = WorkedOff()
        self._limit = limit
        self._holder = working.holder(workflow_id)
        self._marks = Marks()

    async def add(self, marks: Marks) -> None:
        self._marks.add(marks)
        if len(self._marks) >= self._limit:
            await self.write()

    async def write(self) -> None:
        marks, self._marks = self._marks, Marks()
        if not marks:
            return
        async with tenant_session() as session:
            await self._holder.write(session, marks, Source.MESSAGE)
        dead = sum(failure.is_dead for failure in marks.failed)
        self.report = WorkedOff(
            completed=self.report.completed + len(marks.completed),
            failed=self.report.failed + len(marks.failed) - dead,
            dead_letters=self.report.dead_letters + dead,
        )


# It waits while its tenant is suspended, as its messages would in the outbox.
@tenant_job("messages.work_off", queue="default", waits_out_suspension=True)
class WorkOffMessages:
    """Handles several waiting messages of one tenant and one job."""

    @workflow.run
    async def run(self, batch: WorkOff) -> WorkedOff:
        """Returns the counts of the last attempt by outcome."""
        done = await workflow.execute_activity(
            work_off_messages,
            batch,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=1),
                maximum_interval=timedelta(seconds=30),
                maximum_attempts=10,
            ),
        )
        workflow.set_current_details(
            f"{number(len(batch.message_ids), 'message')} of {batch.job}: "
            f"{done.completed:,} completed, {done.failed:,} to retry, "
            f"{number(done.dead_letters, 'dead letter')}."
        )
        return done


def work_off_job() -> Job:
    """Returns the declaration of `WorkOffMessages`."""
    job = job_of(WorkOffMessages)
    assert job is not None
    return job

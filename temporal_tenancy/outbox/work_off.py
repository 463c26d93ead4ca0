"""Several messages of a tenant and a job, worked off in one workflow.

A small job costs more in Temporal than in itself. Here a hundred of them are one workflow and one
activity; each message keeps its own success, attempts, key and dead letter.
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
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox import working
from temporal_tenancy.outbox.events import use_event_id
from temporal_tenancy.outbox.marks import Marks, failed
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.heartbeats import heartbeating

MARK_AT_ONCE: Final = 100  # outcomes that are written in one transaction
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=20)

log: Final = logging.getLogger(__name__)


class WorkOff(TenantJobInput):
    """Asks for messages of one job to be worked off."""

    message_ids: list[UUID]
    retries: RetryLadder


class WorkedOff(BaseModel):
    """What became of the messages in this attempt."""

    completed: int = 0
    failed: int = 0  # and will be tried again
    dead_letters: int = 0


class WorkerLost(TenancyError):
    """Each time this message was worked off, the worker died."""


@tenant_activity
@heartbeating()
async def work_off_messages(batch: WorkOff) -> WorkedOff:
    """Does each message's work, several at once, and marks what became of it.

    What is marked already, by an earlier attempt, is passed over. After a first attempt that did
    not come to its end the rest is worked off one by one, each attempt written before it begins and
    marked before the next: the message that ends the process runs out of attempts, and no other
    does.
    """
    job = registry.get_or_raise(batch.job)
    if job.coalesce is None:
        raise InvalidPayload(f"{job.name} does not coalesce its messages.")
    workflow_id = str(activity.info().workflow_id)
    async with tenant_session() as session:
        messages = await working.load(session, batch.message_ids, workflow_id)
    alone = activity.info().attempt > 1
    marks = _Written(workflow_id, at_once=1 if alone else MARK_AT_ONCE)
    gate = asyncio.Semaphore(1 if alone else job.coalesce.parallel)

    async def work(message: Message) -> None:
        async with gate:
            if alone:
                async with tenant_session() as session:
                    message = await working.begin_again(session, message, workflow_id)
                if message.attempts > batch.retries.attempts:
                    lost = WorkerLost(f"the worker died {message.attempts - 1} times at it.")
                    await marks.add(Marks(failed=[failed(message, lost, batch.retries)]))
                    return
            await marks.add(await _outcome(job, message, batch.retries))

    await asyncio.gather(*map(work, messages))
    await marks.write()
    return marks.report


async def _outcome(job: Job, message: Message, retries: RetryLadder) -> Marks:
    """Does one message's work; returns what became of it."""
    assert job.coalesce is not None
    what = f"the payload of {job.name}"
    try:
        values = read_message(message.payload, what=what)
        if not isinstance(values, dict):
            raise InvalidPayload(f"{what} is an object of its fields.")
        values["tenant_id"] = current_tenant()
        job_input = read_input(job.input_model, values, what=what)
        with use_event_id(message.key):
            await job.coalesce.handler(job_input)
    except Exception as error:  # one message's trouble is its own
        log.warning(
            "message.failed",
            extra={
                "job": job.name,
                "message_id": str(message.id),
                "attempt": message.attempts,
                "error_type": type(error).__name__,
            },
        )
        return Marks(failed=[failed(message, error, retries)])
    return Marks(completed=[message])


class _Written:
    """Writes marks some at a time, and counts them."""

    def __init__(self, workflow_id: str, *, at_once: int) -> None:
        self.report = WorkedOff()
        self._at_once = at_once
        self._holder = working.holder(workflow_id)
        self._waiting = Marks()

    async def add(self, marks: Marks) -> None:
        self._waiting.add(marks)
        if len(self._waiting) >= self._at_once:
            await self.write()

    async def write(self) -> None:
        marks, self._waiting = self._waiting, Marks()
        if not marks:
            return
        async with tenant_session() as session:
            await self._holder.write(session, marks, Source.MESSAGE)
        dead = sum(one.is_dead for one in marks.failed)
        self.report = WorkedOff(
            completed=self.report.completed + len(marks.completed),
            failed=self.report.failed + len(marks.failed) - dead,
            dead_letters=self.report.dead_letters + dead,
        )


# While its tenant is suspended it waits, as its messages would if they were still in the outbox.
@tenant_job("messages.work_off", queue="default", waits_out_suspension=True)
class WorkOffMessages:
    """Works off messages that waited together: of one tenant and one job."""

    @workflow.run
    async def run(self, batch: WorkOff) -> WorkedOff:
        """Returns what became of them."""
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
            f"{len(batch.message_ids)} messages of {batch.job}: {done.completed} completed, "
            f"{done.failed} to be tried again, {done.dead_letters} dead letters."
        )
        return done


def work_off_job() -> Job:
    """The declaration of `WorkOffMessages`."""
    job = job_of(WorkOffMessages)
    assert job is not None
    return job

"""Handles several messages of one tenant and one job in one workflow.

A small job costs less than its own workflow would. Here a hundred of them share one workflow and
one activity, and one call of a handler that takes them together, while each message keeps its own
outcome, attempts, key and dead letter.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.errors import InvalidPayload, TenancyError
from temporal_tenancy.core.inputs import TenantJobInput, read_input
from temporal_tenancy.core.jobs import Coalesce, Job, job_of, registry, tenant_job
from temporal_tenancy.core.payloads import read_message
from temporal_tenancy.core.redaction import withholding
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox import _working as working
from temporal_tenancy.outbox._events import use_event_ids
from temporal_tenancy.outbox.marks import Marks, failed
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.postgres.database_errors import (
    DatabaseUnreachable,
    PoolExhausted,
    PoolShareInUse,
)
from temporal_tenancy.sdk.heartbeats import heartbeating

MARK_AT_ONCE: Final = 100  # marks written in one transaction
MARK_EVERY: Final = timedelta(seconds=1)
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=20)
ATTEMPT_MINUTES: Final = 5  # of one attempt at all messages of a workflow

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
    """No attempt at this message came to an end: the worker died, or the time was up."""


class HandlerCancelled(Exception):  # another attempt may succeed
    """The handler ended as cancelled, though nobody had cancelled it."""


@tenant_activity
@heartbeating()
async def work_off_messages(batch: WorkOff) -> WorkedOff:
    """Calls the job's handler for the messages, and marks the outcomes.

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
    work = _Work(job, job.coalesce, batch.retries, workflow_id)
    if activity.info().attempt > 1:
        await work.do_one_by_one(messages)
    elif job.coalesce.together:
        await work.do_together(messages)
    else:
        await work.do_each(messages)
    return work.marks.report


@dataclass(frozen=True)
class _Taken:
    """A message and the input in it."""

    message: Message
    input: BaseModel


class _Work:
    """An attempt to handle the messages of one job."""

    def __init__(
        self, job: Job, coalesce: Coalesce, retries: RetryLadder, workflow_id: str
    ) -> None:
        self.marks = _MarkBuffer(workflow_id)
        self._job = job
        self._coalesce = coalesce
        self._retries = retries
        self._workflow_id = workflow_id

    async def do_each(self, messages: Sequence[Message]) -> None:
        """Handles each message alone, several in parallel."""
        slots = asyncio.Semaphore(self._coalesce.parallel)

        async def do(message: Message) -> None:
            async with slots:
                await self.marks.add(await self._outcome(message))

        await asyncio.gather(*map(do, messages))
        await self.marks.write()

    async def do_one_by_one(self, messages: Sequence[Message]) -> None:
        """Handles each message alone, and counts each attempt before it begins."""
        for message in messages:
            async with tenant_session() as session:
                message = await working.begin_again(session, message, self._workflow_id)
            if message.attempts > self._retries.attempts:
                lost = WorkerLost(
                    f"{number(message.attempts - 1, 'attempt')} did not come to an end: the worker "
                    f"died, or the handler blocked it or took longer than {ATTEMPT_MINUTES} "
                    "minutes. The worker's log says which. Mend that, then replay the message."
                )
                await self.marks.add(self._failure(message, lost))
            else:
                await self.marks.add(await self._outcome(message))
            await self.marks.write()

    async def do_together(self, messages: Sequence[Message]) -> None:
        """Handles up to `limit` messages in one call, but for those that have failed before.

        A call that fails is made again for each half of its messages.
        """
        taken = []
        for message in messages:
            try:
                if not _has_failed(message):
                    taken.append(self._read(message))
            except Exception as error:  # one message's payload must not affect the others
                await self.marks.add(self._failure(message, error))
        limit = self._coalesce.limit
        parts = [taken[begin : begin + limit] for begin in range(0, len(taken), limit)][::-1]
        while parts:
            part = parts.pop()
            try:
                await self._call(part)
            except (DatabaseUnreachable, PoolExhausted, PoolShareInUse):
                raise  # of no message: the activity is tried again
            except Exception as error:
                if len(part) == 1:
                    await self.marks.add(self._failure(part[0].message, error))
                else:
                    parts += (part[len(part) // 2 :], part[: len(part) // 2])
                    self._tell_halved(part, error)
            else:
                await self.marks.add(Marks(completed=[each.message for each in part]))
            await self.marks.write_if_old()  # there may be many parts, and each may take long
        await self.do_each([message for message in messages if _has_failed(message)])

    async def _outcome(self, message: Message) -> Marks:
        """Calls the handler for one message; returns the message's mark."""
        try:
            await self._call([self._read(message)])
        except Exception as error:  # one message's failure must not affect the others
            return self._failure(message, error)
        return Marks(completed=[message])

    def _read(self, message: Message) -> _Taken:
        what = f"the payload of {self._job.name}"
        values = read_message(message.payload, what=what)
        if not isinstance(values, dict):
            raise InvalidPayload(f"{what} must be a JSON object.")
        values["tenant_id"] = current_tenant()
        return _Taken(message, read_input(self._job.input_model, values, what=what))

    async def _call(self, part: Sequence[_Taken]) -> None:
        inputs = [each.input for each in part]
        keys = [each.message.key for each in part]
        # An error of the handler stays in the activity, so that what it must not repeat, such as
        # what `never_repeat()` names, is marked here.
        with use_event_ids(keys), withholding(inputs, known=" ".join(keys)):
            try:
                done = await self._coalesce.handler(
                    inputs if self._coalesce.together else inputs[0]
                )
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                raise HandlerCancelled(
                    "the handler ended as cancelled, though nobody had cancelled it: a task that "
                    "it awaits was."
                ) from None
        if inspect.iscoroutine(done):
            done.close()
            raise InvalidPayload(
                f"the handler of {self._job.name} returned a coroutine, which nobody awaits, so "
                "its work was not done. Write await in front of the call that makes it."
            )

    def _failure(self, message: Message, error: Exception) -> Marks:
        failure = failed(message, error, self._retries)
        # `JobContext` makes `attempt` that of the activity, as in each line of a job.
        log.warning(
            "message.dead" if failure.is_dead else "message.failed",
            exc_info=error,
            extra={
                "job": self._job.name,
                "message_id": str(message.id),
                "key": message.key,
                "attempt": message.attempts,
                "message_attempt": message.attempts,
                "error_type": failure.error_type,
            },
        )
        return Marks(failed=[failure])

    def _tell_halved(self, part: Sequence[_Taken], error: Exception) -> None:
        log.info(
            "messages.halved",
            extra={
                "job": self._job.name,
                "messages": len(part),
                "error_type": type(error).__name__,
            },
        )


def _has_failed(message: Message) -> bool:
    """Whether an attempt before this one did not handle it."""
    return message.attempts > 1


class _MarkBuffer:
    """Collects marks, writes them in batches, and counts them."""

    def __init__(self, workflow_id: str) -> None:
        self.report = WorkedOff()
        self._written = time.monotonic()
        self._holder = working.holder(workflow_id)
        self._marks = Marks()

    async def add(self, marks: Marks) -> None:
        self._marks.add(marks)
        if len(self._marks) >= MARK_AT_ONCE:
            await self.write()

    async def write_if_old(self) -> None:
        """Writes if marks have waited for a while: an attempt that ends here would lose them."""
        if time.monotonic() - self._written >= MARK_EVERY.total_seconds():
            await self.write()

    async def write(self) -> None:
        self._written = time.monotonic()
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
            start_to_close_timeout=timedelta(minutes=ATTEMPT_MINUTES),
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

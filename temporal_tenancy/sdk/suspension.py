"""Activities whose jobs wait out a suspension: paused on the server, and released after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Final

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.directory import TenantDirectory, TenantStatus
from temporal_tenancy.core.errors import TenantMismatch, TenantSuspended
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.tenant_state import waits
from temporal_tenancy.sdk.logs import told
from temporal_tenancy.sdk.lookups import if_known

IDENTITY: Final = "temporal-tenancy/suspension"  # who paused; what a person paused has another
WATCH_SECONDS: Final = 1.0  # between looks at a running activity's tenant, whose state is cached
ASK_TIMEOUT: Final = timedelta(seconds=10)  # of one request to the server
AT_ONCE: Final = 20  # runs that are released at the same time

_PAUSED_RUNS: Final = "TemporalPauseInfo IS NOT NULL AND ExecutionStatus = 'Running'"

Run = tuple[str, str]  # a workflow's id and its run's

log: Final = logging.getLogger(__name__)


class SuspensionWatch:
    """Pauses one running attempt of an activity when its tenant is suspended.

    An attempt is failed only while it is paused: the server then neither counts it nor tries
    again, whatever the retry policy, until the activity is released.
    """

    def __init__(
        self, client: Client, directory: TenantDirectory, job: Job, tenant_id: str
    ) -> None:
        """`client` is the worker's, and `job` the one that the running activity belongs to."""
        self._client = client
        self._directory = directory
        self._job = job
        self._tenant_id = tenant_id
        info = activity.info()
        self._activity_id, self._name = info.activity_id, info.activity_type
        self._run: Run = (info.workflow_id or "", info.workflow_run_id or "")
        self._why = ""  # the suspension for which it was paused; none before that

    async def pass_or_wait(self) -> None:
        """Returns unless the tenant is suspended: then it raises `TenantSuspended`, retryable."""
        if await self._pauses():
            raise self._waiting()
        self._why = ""  # a cancellation from here on has another reason

    @asynccontextmanager
    async def watching(self, *, cancels: bool) -> AsyncIterator[None]:
        """Turns a suspension during the block into `TenantSuspended`, retryable.

        With `cancels` the block is cancelled. Without, as a thread cannot be, it is left to the
        server's answer to the next heartbeat.
        """
        task = asyncio.current_task()
        assert task is not None
        watcher = asyncio.create_task(self._watch(task if cancels else None))
        try:
            yield
        except (asyncio.CancelledError, CancelledError):
            details = activity.cancellation_details()
            if not self._why or (details is not None and details.cancel_requested):
                raise
            await _end(watcher)
            # The tenant may have been resumed, and the pause undone, since the cancellation.
            await self._pause(self._why)
            raise self._waiting() from None
        finally:
            await _end(watcher)

    async def _watch(self, task: asyncio.Task[object] | None) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if await self._pauses():
                    break
            except Exception as error:  # of any directory; one that is away suspends nobody
                log.warning("suspension.unknown", extra={"error": str(error)})
        if task is not None:
            task.cancel()

    async def _pauses(self) -> bool:
        """Pauses the activity if its tenant is suspended, and says whether it is."""
        tenant = await self._directory.find(self._tenant_id)
        if tenant is None or not waits(tenant, self._job):
            return False
        self._why = f"{tenant.id} is suspended since {tenant.status_since.date().isoformat()}"
        await self._pause(self._why)
        # Who resumed the tenant before it was paused has not seen the pause; who does now will.
        found = await self._directory.find_many([self._tenant_id])
        if any(waits(each, self._job) for each in found):
            return True
        for pending in await _waiting_in(self._client, self._run):
            if pending.activity_id == self._activity_id:
                await _unpause(self._client, self._run, self._activity_id, reset_attempts=False)
        return False

    async def _pause(self, why: str) -> None:
        try:
            with _unless_ended():
                await self._client.workflow_service.pause_activity(
                    PauseActivityRequest(
                        namespace=self._client.namespace,
                        execution=_execution(self._run),
                        id=self._activity_id,
                        identity=IDENTITY,
                        reason=why,
                    ),
                    retry=True,
                    timeout=ASK_TIMEOUT,
                )
        except RPCError as error:
            raise _retryable(
                f"{why}, and {self._name} cannot be paused: {error.message}"
            ) from error

    def _waiting(self) -> ApplicationError:
        log.info("activity.paused", extra={"reason": self._why})
        return _retryable(f"{self._why}, and {self._job.name} waits until it is resumed.")


async def release(client: Client, tenant_id: str) -> int:
    """Lets a tenant's activities go on that wait for the end of its suspension.

    They begin a new first attempt, at their last heartbeat. What a person has paused stays so.
    Nothing is asked about the tenant: in one that is still suspended they are paused again.

    Returns how many went on. An activity that is just being paused is not among them; the job
    `suspensions.release` comes back to it.
    """
    query = f"{_PAUSED_RUNS} AND TenantId = '{tenant_id}'"
    runs = [(each.id, each.run_id) async for each in client.list_workflows(query)]
    return await _release_runs(client, runs)


async def release_all(client: Client, directory: TenantDirectory) -> int:
    """As `release`, for every tenant that is not suspended; returns how many activities went on.

    One whose tenant is being offboarded, or is gone, goes on too: to be refused.
    """
    waiting: dict[str, list[Run]] = {}
    async for each in client.list_workflows(_PAUSED_RUNS):
        with suppress(TenantMismatch):  # an id that is not one of ours: a person paused it
            if owner := WorkflowId.parse(each.id).tenant:
                waiting.setdefault(owner, []).append((each.id, each.run_id))
    found = await directory.find_many(waiting)
    suspended = {each.id for each in found if each.status is TenantStatus.SUSPENDED}
    runs = [run for owner, paused in waiting.items() if owner not in suspended for run in paused]
    return await _release_runs(client, runs)


def is_waiting(pending: PendingActivityInfo) -> bool:
    """Whether an activity is paused because its tenant is suspended."""
    return pending.paused and pending.pause_info.manual.identity == IDENTITY


async def _release_runs(client: Client, runs: Sequence[Run]) -> int:
    gate = asyncio.Semaphore(AT_ONCE)

    async def release_run(run: Run) -> int:
        async with gate:
            return await _release_run(client, run)

    return sum(await asyncio.gather(*map(release_run, runs)))


async def _release_run(client: Client, run: Run) -> int:
    """Releases a run's activities; how many. One that is just being paused stays so.

    Its attempt is about to fail, and would count if it were no longer paused by then.
    """
    released = 0
    for pending in await _waiting_in(client, run):
        if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED:
            await _unpause(client, run, pending.activity_id, reset_attempts=True)
            released += 1
    if released:
        log.info("activities.released", extra={"paused_run": run[0], "activities": released})
    return released


async def _waiting_in(client: Client, run: Run) -> Sequence[PendingActivityInfo]:
    workflow_id, run_id = run
    found = await if_known(client.get_workflow_handle(workflow_id, run_id=run_id).describe())
    if found is None:
        return ()
    return [each for each in found.raw_description.pending_activities if is_waiting(each)]


async def _unpause(client: Client, run: Run, activity_id: str, *, reset_attempts: bool) -> None:
    with _unless_ended():
        await client.workflow_service.unpause_activity(
            UnpauseActivityRequest(
                namespace=client.namespace,
                execution=_execution(run),
                id=activity_id,
                identity=IDENTITY,
                reset_attempts=reset_attempts,
            ),
            retry=True,
            timeout=ASK_TIMEOUT,
        )


def _execution(run: Run) -> WorkflowExecution:
    workflow_id, run_id = run
    return WorkflowExecution(workflow_id=workflow_id, run_id=run_id)


@contextmanager
def _unless_ended() -> Iterator[None]:
    """Lets pass that a run, or its activity, has ended."""
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


def _retryable(message: str) -> ApplicationError:
    error = ApplicationError(
        message,
        type=TenantSuspended.__name__,
        category=ApplicationErrorCategory.BENIGN,  # nothing is wrong with the worker
    )
    told(error)
    return error


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

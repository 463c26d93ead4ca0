"""What a job waits out: its activities are paused on the server, then released."""

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

from temporal_tenancy.core.directory import Tenant, TenantDirectory, TenantStatus
from temporal_tenancy.core.errors import TenantMismatch, TenantSuspended
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.tasks import end_tasks
from temporal_tenancy.core.tenant_state import waits
from temporal_tenancy.core.waiting import Waits, reason_to_wait
from temporal_tenancy.sdk.logs import mark_reported
from temporal_tenancy.sdk.lookups import if_known

IDENTITY: Final = "temporal-tenancy/suspension"  # on our pauses; a person's pause has another one
WATCH_SECONDS: Final = 1.0  # between checks of a running activity's tenant, whose state is cached
ASK_TIMEOUT: Final = timedelta(seconds=10)  # for one request to the server
AT_ONCE: Final = 20  # runs released concurrently

PAUSED_RUNS: Final = "TemporalPauseInfo IS NOT NULL AND ExecutionStatus = 'Running'"

Run = tuple[str, str]  # workflow id, run id

log: Final = logging.getLogger(__name__)


class SuspensionWatch:
    """Pauses the running attempt of an activity if its tenant is suspended.

    The attempt fails only while it is paused: then the server neither counts nor retries it until
    the activity is released, whatever the retry policy says.
    """

    def __init__(
        self, client: Client | None, directory: TenantDirectory, job: Job, tenant_id: str
    ) -> None:
        """`client` is the worker's, and `job` is the job of the running activity."""
        self._client = client
        self._type = TenantSuspended.__name__
        self._until = f"and {job.name} waits until it is resumed"
        self._directory = directory
        self._job = job
        self._tenant_id = tenant_id
        info = activity.info()
        self._activity_id, self._name = info.activity_id, info.activity_type
        self._run: Run = (info.workflow_id or "", info.workflow_run_id or "")
        self._why = ""  # the suspension that paused it; empty before that

    async def pass_or_wait(self) -> None:
        """Pauses the activity if its tenant is suspended; otherwise returns at once.

        Raises:
            ApplicationError: the tenant is suspended; type `TenantSuspended`, retryable.
        """
        if await self._pause_if_suspended():
            raise self._waiting()
        self._why = ""  # a cancellation after this has another reason

    @asynccontextmanager
    async def watching(self, *, cancels: bool) -> AsyncIterator[None]:
        """Pauses the activity if its tenant is suspended during the block.

        With `cancels` the block is then cancelled. A thread cannot be cancelled from here: without
        `cancels` the SDK does it when the server answers the next heartbeat.

        Raises:
            ApplicationError: a suspension ended the block; type `TenantSuspended`, retryable.
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
            await end_tasks(watcher)
            # The tenant may have been resumed, and the pause undone, since the cancellation.
            await self._pause(self._why)
            raise self._waiting() from None
        finally:
            await end_tasks(watcher)

    async def _watch(self, task: asyncio.Task[object] | None) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if await self._pause_if_suspended():
                    break
            except Exception as error:  # any directory's error; an unreachable one suspends nobody
                log.warning("suspension.unknown", extra={"error": str(error)})
        if task is not None:
            task.cancel()

    async def _pause_if_suspended(self) -> bool:
        """Pauses the activity if its tenant is suspended; returns whether it is."""
        tenant = await self._directory.find(self._tenant_id)
        if tenant is None or not self._is_to_wait(tenant):
            return False
        self._why = self._reason(tenant)
        await self._pause(self._why)
        # A resume just before the pause did not see the activity, so the state is read again: a
        # resume after this sees it.
        tenants = await self._directory.find_many([self._tenant_id])
        if any(self._is_to_wait(tenant) for tenant in tenants):
            return True
        assert self._client is not None
        for pending in await _waiting_in(self._client, self._run):
            if pending.activity_id == self._activity_id:
                await _unpause(self._client, self._run, self._activity_id, reset_attempts=False)
        return False

    def _is_to_wait(self, tenant: Tenant) -> bool:
        return waits(tenant, self._job)

    def _reason(self, tenant: Tenant) -> str:
        return f"{tenant.id} is suspended{tenant.since}"

    async def _pause(self, why: str) -> None:
        assert self._client is not None
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
                f"{why}, and {self._name} cannot be paused: {error.message}", self._type
            ) from error

    def _waiting(self) -> ApplicationError:
        log.info("activity.paused", extra={"reason": self._why})
        return _retryable(f"{self._why}, {self._until}.", self._type)


class Waiting(SuspensionWatch):
    """Pauses an activity before it begins, as in a suspension, while a feature says why it waits.

    Every job waits so. A local activity, which the server cannot pause, fails and is retried.
    """

    def __init__(
        self,
        client: Client | None,
        directory: TenantDirectory,
        job: Job,
        tenant_id: str,
        waits: Waits,
    ) -> None:
        """As `SuspensionWatch`; `client` is None for a local activity."""
        super().__init__(client, directory, job, tenant_id)
        self._waits = waits
        self._until = "and it waits for that"

    async def pass_or_fail(self, tenant: Tenant) -> Tenant:
        """Returns the tenant's record when the activity may begin.

        Raises:
            ApplicationError: it waits; of the reason's type, and retryable.
        """
        if self._client is None:
            self._why = self._reason(tenant)
            raise self._waiting()
        await self.pass_or_wait()
        tenants = await self._directory.find_many([self._tenant_id])
        return next(iter(tenants), tenant)

    def _is_to_wait(self, tenant: Tenant) -> bool:
        return self._waits(tenant, self._job) is not None

    def _reason(self, tenant: Tenant) -> str:
        reason = self._waits(tenant, self._job)
        assert reason is not None
        self._type = reason.type or self._type
        return reason.message.removesuffix(".")


async def release(client: Client, tenant_id: str) -> int:
    """Releases a tenant's activities that wait for the end of its suspension.

    Each starts again with attempt 1 and the details of its last heartbeat. Activities that a
    person paused stay paused. The tenant's state is not checked: if it is still suspended, its
    activities pause again.

    Returns:
        How many activities were released. One whose pause has just begun is left for the job
        `suspensions.release`.

    Raises:
        RPCError: the server does not answer.
    """
    query = f"{PAUSED_RUNS} AND TenantId = '{tenant_id}'"
    runs = [(run.id, run.run_id) async for run in client.list_workflows(query)]
    return await _release_runs(client, runs)


async def release_all(client: Client, directory: TenantDirectory) -> int:
    """Releases the activities of every tenant that is not suspended; returns how many.

    Those that wait for anything else, such as the migration of their tenant's store, stay paused.
    Each is released as by `release()`. If its tenant is being offboarded, or is gone, the released
    activity is then refused.

    Raises:
        RPCError: the server does not answer.
    """
    waiting: dict[str, list[tuple[str, Run]]] = {}  # by tenant, each with its job
    async for run in client.list_workflows(PAUSED_RUNS):
        with suppress(TenantMismatch):  # not an id of ours, so a person paused it
            parsed = WorkflowId.parse(run.id)
            if parsed.tenant:
                waiting.setdefault(parsed.tenant, []).append((parsed.job, (run.id, run.run_id)))
    tenants = {tenant.id: tenant for tenant in await directory.find_many(waiting)}
    released = [
        run
        for owner, runs in waiting.items()
        for job, run in runs
        if not _still_waits(tenants.get(owner), registry.get(job))
    ]
    return await _release_runs(client, released)


def _still_waits(tenant: Tenant | None, job: Job | None) -> bool:
    if tenant is None:
        return False
    if tenant.status is TenantStatus.SUSPENDED:
        return True
    return job is not None and reason_to_wait(tenant, job) is not None


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
    """Releases a run's activities, and returns how many.

    One whose pause has just begun stays paused: its attempt is about to fail, and would count if
    the pause were gone by then.
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
    described = await if_known(client.get_workflow_handle(workflow_id, run_id=run_id).describe())
    if described is None:
        return ()
    return list(filter(is_waiting, described.raw_description.pending_activities))


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
    """Ignores that a run, or its activity, has ended."""
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


def _retryable(message: str, error_type: str) -> ApplicationError:
    error = ApplicationError(
        message,
        type=error_type,
        category=ApplicationErrorCategory.BENIGN,  # nothing is wrong with the worker
    )
    mark_reported(error)
    return error

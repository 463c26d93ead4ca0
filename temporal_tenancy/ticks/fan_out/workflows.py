"""The fan-out: a root divides a tick's tenants into shards; a shard starts a child for each.

There is no barrier. A shard keeps a window of running children and starts another as soon as one
ends; the next shard begins when the one before has started its last child. A tenant that hangs
takes one place in one window until its job's own timeout. Tenants have their turns in the order in
which they are due; a shard waits for the next by a timer, which occupies no worker slot.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import (
    Priority,
    RawValue,
    RetryPolicy,
    SearchAttributeKey,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import (
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import (
    ActivityCancellationType,
    ChildWorkflowCancellationType,
    ParentClosePolicy,
)

from temporal_tenancy.control_plane.tables import LedgerState, TickState
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import Job, JobPriority, platform_job, registry
from temporal_tenancy.core.tenant_id_types import example_id
from temporal_tenancy.core.words import number
from temporal_tenancy.ticks.fan_out import _activities as activities
from temporal_tenancy.ticks.fan_out._outcomes import outcome_of_failure
from temporal_tenancy.ticks.fan_out._pace import Pace
from temporal_tenancy.ticks.fan_out._released import ReleasedRuns
from temporal_tenancy.ticks.fan_out.children import child_input
from temporal_tenancy.ticks.fan_out.payloads import (
    AllStarted,
    Candidate,
    ChildRef,
    CloseTicks,
    Counts,
    Failure,
    FanOutInput,
    FanOutPlan,
    FanOutResult,
    NextPage,
    PlanTicks,
    RecordOutcomes,
    Rest,
    ShardInput,
    ShardPlan,
    ShardResult,
    StartedRun,
    StartReleased,
    TenantOutcome,
)
from temporal_tenancy.ticks.fan_out.planning import tick_of

SCHEDULED_TIME: Final = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
FLUSH_SIZE: Final = 200  # outcomes in one write
FLUSH_SECONDS: Final = 2.0  # longest time that an outcome waits for others
LOOK_SECONDS: Final = 1.0  # first pause between polls of a child of another run; it doubles
LOOK_SECONDS_MAX: Final = 60.0
PATCH_AHEAD: Final = "temporal-tenancy-pages-ahead"  # earlier releases read no page ahead

# While the control plane is unavailable, tenants' jobs wait and do not fail.
_LEDGER: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": timedelta(hours=2),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(seconds=30)),
    "priority": Priority(priority_key=int(JobPriority.URGENT)),
}
_PLAN: Final[dict[str, Any]] = {
    **_LEDGER,
    "start_to_close_timeout": timedelta(minutes=30),
    "heartbeat_timeout": timedelta(minutes=1),
}


@platform_job(
    "fan_out.tick",
    reason="runs a job for every tenant",
    queue="default",
    priority=JobPriority.HIGH,
    pinned=True,
)
class FanOut:
    """Runs a job for every tenant, and returns the counts of their outcomes."""

    def __init__(self) -> None:
        self._all_started: dict[int, Rest | None] = {}
        self._shards: list[asyncio.Task[ShardResult]] = []
        self._shard_ids: dict[int, str] = {}

    @workflow.run
    async def run(self, request: FanOutInput) -> FanOutResult:
        """Plans the tenants' turns, then starts the shards one after the other.

        Raises:
            UnknownJob: this release has no job of that name, or it is not a tenant job.
            InvalidPayload: the request does not fit the job.
        """
        job = registry.get_or_raise(request.job)
        info = workflow.info()
        nominal = info.typed_search_attributes.get(SCHEDULED_TIME)
        tick = request.tick or tick_of(job, nominal or info.workflow_start_time)
        # Fails once here rather than for each tenant.
        child_input(job, example_id(), tick, request.extra)
        ticks: list[str] | None = None
        try:
            plan = await self._plan(request, nominal)
            ticks = plan.ticks
            tenants = number(plan.tenants, "tenant")
            title = f"{job.name} for {tenants}, tick {', '.join(ticks) or tick}"
            workflow.set_current_details(f"{title}: at work.")
            counts = await self._run_shards(request, plan)
        except (asyncio.CancelledError, FailureError) as error:
            state = TickState.CANCELLED if is_cancelled_exception(error) else TickState.FAILED
            reason = f"the fan-out was {state} before this tenant's turn."
            # Recorded before the shards end, which a child that hangs may delay for hours.
            await self._close(job, ticks, state, reason)
            await asyncio.gather(*self._shards, return_exceptions=True)
            raise
        await self._close(job, ticks, TickState.ENDED)
        workflow.set_current_details(
            f"{title}: {counts.succeeded} succeeded, {counts.failed} failed, "
            f"{counts.skipped} skipped, {counts.already} had succeeded before."
        )
        return FanOutResult(
            job=job.name,
            tick=", ".join(ticks) or tick,
            planned=plan.tenants,
            **counts.model_dump(),
        )

    @workflow.signal
    def all_started(self, message: AllStarted) -> None:
        """Lets the next shard begin, because this one has started its last child."""
        if message.shard_id == self._shard_ids.get(message.number):
            self._all_started[message.number] = message.rest

    async def _plan(self, request: FanOutInput, nominal: datetime | None) -> FanOutPlan:
        info = workflow.info()
        plan: FanOutPlan = await workflow.execute_activity(
            activities.plan_ticks,
            PlanTicks(
                request=request,
                nominal_time=nominal,
                now=info.workflow_start_time,
                workflow_id=info.workflow_id,
                run_id=info.run_id,
            ),
            # Wait, so that planning cannot write to a tick after it was closed.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            **_PLAN,
        )
        # A cancellation that arrives together with the result is not raised by the call above.
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        return plan

    async def _close(
        self, job: Job, ticks: list[str] | None, state: TickState, reason: str | None = None
    ) -> None:
        info = workflow.info()
        request = CloseTicks(
            job=job.name,
            ticks=ticks,
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            state=state,
            reason=reason,
        )
        await workflow.execute_activity(activities.close_ticks, request, **_LEDGER)

    async def _run_shards(self, request: FanOutInput, plan: FanOutPlan) -> Counts:
        try:
            parts = deque(plan.shards)
            while parts:
                number, part = len(self._shards), parts.popleft()
                shard = asyncio.create_task(self._run_shard(request, number, part))
                self._shards.append(shard)
                rest = await self._until_all_started(shard, number)
                if rest is not None:
                    left = {"after": rest.after, "tenants": rest.tenants}
                    parts.appendleft(part.model_copy(update=left))
            # A shard that fails, for example because it was terminated, does not stop the others.
            await asyncio.gather(*self._shards, return_exceptions=True)
        except asyncio.CancelledError:
            for shard in self._shards:
                shard.cancel()
            raise
        total = Counts(already=plan.already)
        for shard in self._shards:
            total.add(shard.result())
        return total

    async def _until_all_started(
        self, shard: asyncio.Task[ShardResult], number: int
    ) -> Rest | None:
        """Waits until a shard has started its last child; returns the tenants that it left."""
        await workflow.wait_condition(lambda: shard.done() or number in self._all_started)
        if shard.done() and not shard.cancelled() and shard.exception() is None:
            return shard.result().rest
        return self._all_started.get(number)

    async def _run_shard(self, request: FanOutInput, number: int, part: ShardPlan) -> ShardResult:
        root = WorkflowId.parse(workflow.info().workflow_id)
        # Unique in each run, because a shard of an earlier run, or of one that was reset or
        # terminated, may still be waiting for its children.
        key = f"{root.key}/shard-{number}-{workflow.uuid4().hex[:8]}"
        self._shard_ids[number] = str(WorkflowId(PLATFORM, request.job, key))
        return await workflow.execute_child_workflow(
            Shard.run,
            ShardInput(
                job=request.job,
                tick=part.tick,
                extra=request.extra,
                statuses=request.statuses,
                planned_by=str(root),
                after=part.after,
                upto=part.upto,
                tenants=part.tenants,
                max_starts_per_second=request.max_starts_per_second,
                window=request.window,
                number=number,
            ),
            id=self._shard_ids[number],
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
            cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


@platform_job(
    "fan_out.shard",
    reason="runs a job for a part of the tenants",
    queue="default",
    priority=JobPriority.HIGH,
    pinned=True,
)
class Shard:
    """Runs a job for up to 2,000 tenants, a bounded number at a time. Never continues as new.

    Children that end one by one, because of a slow pace or slow jobs, cost more history events
    than children that end together. If the history grows too long, the shard leaves the tenants
    that it has not read yet to a further shard.
    """

    def __init__(self) -> None:
        self._waiting: deque[Candidate] = deque()
        self._starting = 0  # children whose start is not confirmed yet
        self._seen = 0  # tenants read from the ledger
        self._counts = Counts()
        self._unwritten: list[TenantOutcome] = []
        self._exhausted = False  # every page has been read or left to a further shard
        self._reads_ahead = False
        self._reading: asyncio.Task[None] | None = None  # the last read that was begun ahead
        self._rest: Rest | None = None
        self._stopped = False  # cancelled: start no more children
        self._done = False
        self._turn = asyncio.Lock()
        self._released = ReleasedRuns()

    @workflow.run
    async def run(self, request: ShardInput) -> ShardResult:
        """Starts a child for each tenant, and waits for all of them.

        Raises:
            UnknownJob: this release has no job of that name.
        """
        self._request = request
        self._job = registry.get_or_raise(request.job)
        self._after = request.after
        self._pace = Pace(request.max_starts_per_second, workflow.now(), first=not request.number)
        self._reads_ahead = workflow.patched(PATCH_AHEAD)
        places = [asyncio.create_task(self._fill_a_place()) for _ in range(request.window)]
        writer = asyncio.create_task(self._write_outcomes())
        teller = asyncio.create_task(self._tell_when_all_are_started())
        looker = asyncio.create_task(self._released.look(_LEDGER))
        work = asyncio.gather(*places)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            # Running children continue, and their outcomes are still recorded.
            self._stopped = True
            await work
            raise
        finally:
            self._done = True
            self._released.stop()
            await asyncio.shield(asyncio.gather(writer, teller, looker))
            if self._reading is not None:
                await workflow.wait([self._reading])  # unless a place has waited for it
        return ShardResult(**self._counts.model_dump(), rest=self._rest)

    async def _fill_a_place(self) -> None:
        """Runs one child after another until no tenant is left."""
        while (candidate := await self._next()) is not None:
            await self._run_child(candidate)

    async def _next(self) -> Candidate | None:
        """Waits for the next tenant's turn and returns the tenant; None if none is left."""
        async with self._turn:
            while not self._waiting and not self._exhausted and not self._stopped:
                await (self._begin_to_read() if self._reads_ahead else self._read_page())
            if self._waiting:
                await self._wait_until(self._waiting[0].due_at)
                await self._wait_until(self._pace.next_start(workflow.now()))
            if self._stopped or not self._waiting:
                return None
            candidate = self._waiting.popleft()
            # On a busy queue a page takes as long as a child, and places would stay empty for it.
            # What is read is run by this shard, so a longer stock would make its history longer.
            stock = max(self._request.window // 4, 1)
            if self._reads_ahead and not self._exhausted and len(self._waiting) <= stock:
                self._begin_to_read()
            return candidate

    def _begin_to_read(self) -> asyncio.Task[None]:
        """Begins to read the next page, unless a read is under way; raises if the last one did."""
        if self._reading is not None and self._reading.done():
            self._reading.result()
            self._reading = None
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_page())
        return self._reading

    async def _wait_until(self, moment: datetime) -> None:
        """Waits on a timer; returns early if the shard is stopped."""
        left = moment - workflow.now()
        if left > timedelta():
            await _wait(lambda: self._stopped, left)

    async def _read_page(self) -> None:
        request = self._request
        # Suggested at 4,096 events; the children already started will add more of them.
        if self._seen and self._after and workflow.info().is_continue_as_new_suggested():
            self._rest = Rest(after=self._after, tenants=request.tenants - self._seen)
            self._exhausted = True
            return
        page = await workflow.execute_activity_method(
            activities.ShardPages.next_page,
            NextPage(
                job=request.job,
                tick=request.tick,
                statuses=request.statuses,
                planned_by=request.planned_by,
                after=self._after,
                upto=request.upto,
            ),
            **_LEDGER,
        )
        self._waiting.extend(page.candidates)
        self._seen += len(page.candidates) + page.skipped
        self._counts.skipped += page.skipped
        self._after = page.last
        self._exhausted = page.last is None
        if self._exhausted:
            # The rest have succeeded since they were planned, or now belong to another run.
            self._counts.already += request.tenants - self._seen

    async def _run_child(self, candidate: Candidate) -> None:
        if candidate.released:
            await self._run_released(candidate)
            return
        tenant = candidate.tenant_id
        child = ChildRef(
            tenant_id=tenant,
            workflow_id=str(WorkflowId(tenant, self._job.name, self._request.tick)),
        )
        run_id: str | None = None
        try:
            run = await self._start_child(candidate, child)
            run_id = run.first_execution_run_id
            self._unwritten.append(_outcome(child, LedgerState.RUNNING, run_id))
            await run
            outcome = _outcome(child, LedgerState.SUCCEEDED, run_id)
        except WorkflowAlreadyStartedError:
            await self._follow_another(child)
            return
        except FailureError as error:
            outcome = outcome_of_failure(
                tenant, error, workflow_id=child.workflow_id, run_id=run_id
            )
        self._count(outcome)

    async def _run_released(self, candidate: Candidate) -> None:
        """Runs a tenant's job on the worker version that is released to it.

        A child would inherit this shard's version, so an activity starts the run. Its outcome is
        read by this shard, whose code is not the one on trial.
        """
        tenant, request = candidate.tenant_id, self._request
        child = ChildRef(
            tenant_id=tenant, workflow_id=str(WorkflowId(tenant, self._job.name, request.tick))
        )
        self._starting += 1
        try:
            run: StartedRun | None = await workflow.execute_activity(
                activities.start_released,
                StartReleased(
                    **child.model_dump(),
                    job=request.job,
                    tick=request.tick,
                    extra=request.extra,
                    weight=candidate.weight,
                    shard_run=workflow.info().run_id,
                ),
                **_LEDGER,
            )
        except FailureError as error:
            self._count(
                outcome_of_failure(tenant, error, workflow_id=child.workflow_id, run_id=None)
            )
            return
        finally:
            self._starting -= 1
        if run is None:
            await self._follow_another(child)
            return
        running = _outcome(child, LedgerState.RUNNING, run.run_id)
        version = {"build_id": run.build_id, "deployment": run.deployment}
        self._unwritten.append(running.model_copy(update=version))
        self._count(await self._released.ended(child, run))

    async def _follow_another(self, child: ChildRef) -> None:
        """Waits for a child that another run has started, and counts its outcome."""
        outcome = await self._follow(child)
        if outcome.state is LedgerState.SUCCEEDED:
            self._unwritten.append(outcome)
            self._counts.already += 1
        else:
            self._count(outcome)

    async def _start_child(
        self, candidate: Candidate, child: ChildRef
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        request, job = self._request, self._job
        self._starting += 1
        try:
            return await workflow.start_child_workflow(
                job.name,
                child_input(job, candidate.tenant_id, request.tick, request.extra),
                id=child.workflow_id,
                task_queue=job.queue,
                # A child that failed may run again; one that succeeded may not.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                parent_close_policy=ParentClosePolicy.ABANDON,
                cancellation_type=ChildWorkflowCancellationType.ABANDON,
                priority=Priority(fairness_weight=candidate.weight),
                # The result is not used, so one that cannot be decoded must not fail the shard.
                result_type=RawValue,
            )
        finally:
            self._starting -= 1

    async def _follow(self, child: ChildRef) -> TenantOutcome:
        """Waits, without a worker slot, for a child that another run of this tick has started."""
        pause = LOOK_SECONDS
        while True:
            outcome: TenantOutcome | None = await workflow.execute_activity(
                activities.look_at_child, child, **_LEDGER
            )
            if outcome is not None:
                return outcome
            await workflow.sleep(pause)
            pause = min(pause * 2, LOOK_SECONDS_MAX)

    def _count(self, outcome: TenantOutcome) -> None:
        self._unwritten.append(outcome)
        if outcome.state is LedgerState.SUCCEEDED:
            self._counts.succeeded += 1
        elif outcome.state is LedgerState.SKIPPED:
            self._counts.skipped += 1
        else:
            self._counts.failed += 1
            failure = Failure(tenant_id=outcome.tenant_id, reason=outcome.reason or "")
            self._counts.add(Counts(failures=[failure]))

    async def _tell_when_all_are_started(self) -> None:
        await workflow.wait_condition(
            lambda: self._done or (self._exhausted and not self._waiting and not self._starting)
        )
        parent = workflow.info().parent
        if self._done or parent is None:
            return
        root = workflow.get_external_workflow_handle(parent.workflow_id)
        # If the root has ended, the signal is not needed.
        with contextlib.suppress(FailureError):
            message = AllStarted(
                number=self._request.number,
                shard_id=workflow.info().workflow_id,
                rest=self._rest,
            )
            await root.signal(FanOut.all_started, message)

    async def _write_outcomes(self) -> None:
        """Writes outcomes into the ledger in batches, each within about two seconds."""
        while not (self._done and not self._unwritten):
            await self._until_worth_writing()
            # A batch stays within the payload limit, however long the ledger was unavailable.
            batch, self._unwritten = self._unwritten[:FLUSH_SIZE], self._unwritten[FLUSH_SIZE:]
            if batch:
                request = RecordOutcomes(
                    job=self._request.job, tick=self._request.tick, outcomes=batch
                )
                await workflow.execute_activity(activities.record_outcomes, request, **_LEDGER)

    async def _until_worth_writing(self) -> None:
        await workflow.wait_condition(lambda: bool(self._unwritten) or self._done)
        await _wait(
            lambda: len(self._unwritten) >= FLUSH_SIZE or self._done,
            timedelta(seconds=FLUSH_SECONDS),
        )


async def _wait(condition: Callable[[], bool], at_most: timedelta) -> None:
    """Waits until `condition` holds or `at_most` has passed."""
    with contextlib.suppress(TimeoutError):
        await workflow.wait_condition(condition, timeout=at_most)


def _outcome(child: ChildRef, state: LedgerState, run_id: str | None) -> TenantOutcome:
    return TenantOutcome(
        tenant_id=child.tenant_id, state=state, workflow_id=child.workflow_id, run_id=run_id
    )

"""Activities of a fan-out: they enumerate tenants and write the ledger, page by page."""

from __future__ import annotations

import asyncio
from typing import Final

from temporalio import activity
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.client import WorkflowExecutionDescription
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.ledger import Entry, Turn
from temporal_tenancy.control_plane.tables import LedgerState, TickState
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.directory import current_directory
from temporal_tenancy.core.errors import TenancyError, TenantUnknown
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.deployments.releases import Releases
from temporal_tenancy.postgres.database import current_database, platform_session
from temporal_tenancy.sdk.taken_ids import WorkflowIdTaken
from temporal_tenancy.ticks.fan_out import planning
from temporal_tenancy.ticks.fan_out._outcomes import outcome_of_failure
from temporal_tenancy.ticks.fan_out.children import child_input, require_shared, state_of_child
from temporal_tenancy.ticks.fan_out.payloads import (
    Candidate,
    ChildRef,
    CloseTicks,
    EndedRuns,
    FanOutPlan,
    LookAtRuns,
    NextPage,
    Outside,
    Page,
    PlanTicks,
    RecordOutcomes,
    ShardPlan,
    StartedRun,
    StartReleased,
    TenantOutcome,
)
from temporal_tenancy.ticks.fan_out.planning import TickTurns

# Tenants. Few enough that most of a page run while the directory still has them in its cache; with
# larger pages, the later tenants would be looked up again one by one.
PAGE_SIZE: Final = 100
LOOKS_AT_ONCE: Final = 20  # concurrent requests to the server
STARTED_BY: Final = "tenancy-shard"  # the memo with the run id of the shard that started a run


class RunGone(TenancyError):
    """The server no longer has a tenant's run, so nobody knows how it ended."""


@platform_activity("plans a fan-out: enumerates tenants and writes the ledger")
async def plan_ticks(asked: PlanTicks) -> FanOutPlan:
    """Writes a ledger row for each tenant, planned or skipped, and divides them into shards.

    It is idempotent, also after an attempt that was killed half-way.

    Raises:
        UnknownJob: this release has no job of that name.
        InvalidPayload: as for `planning.turns`, or the request has fields that the fan-out sets.
    """
    job = registry.get_or_raise(asked.request.job)
    require_shared(job, asked.request.extra)
    plan = FanOutPlan(ticks=[], shards=[], tenants=0, already=0)
    for turns in planning.turns(job, asked.request, asked.nominal_time, asked.now):
        await _plan_tick(job, asked, turns, plan)
    return plan


async def _plan_tick(job: Job, asked: PlanTicks, turns: TickTurns, plan: FanOutPlan) -> None:
    tenants = 0
    if turns.zones is None:  # else the tick begins with its first tenant that is due
        await _open(job, asked, turns)
    planned_by = asked.workflow_id
    async with platform_session("release what an earlier run left") as session:
        await ledger.release(session, job.name, turns.tick, planned_by=planned_by)
    async for entries in planning.entries(
        job, asked.request, turns, now=asked.now, planned_by=planned_by
    ):
        activity.heartbeat()
        if not entries:
            continue
        if not tenants and turns.zones is not None:
            await _open(job, asked, turns)
        async with platform_session("plan a tick") as session:
            await ledger.plan(session, job.name, turns.tick, entries, planned_by=planned_by)
        tenants += len(entries)
    if not tenants and turns.zones is not None:
        return
    async with platform_session("divide a tick into shards") as session:
        if not asked.request.is_part:
            await ledger.all_planned(session, job.name, turns.tick)
        slices = await ledger.slices(
            session,
            job.name,
            turns.tick,
            planned_by=planned_by,
            size=asked.request.shard_size,
        )
    afters = [None, *(part.upto for part in slices)]
    plan.ticks.append(turns.tick)
    plan.shards += [
        ShardPlan(tick=turns.tick, after=after, upto=part.upto, tenants=part.tenants)
        for after, part in zip(afters, slices, strict=False)
    ]
    plan.tenants += tenants
    plan.already += tenants - sum(part.tenants for part in slices)


async def _open(job: Job, asked: PlanTicks, turns: TickTurns) -> None:
    async with platform_session("open a tick") as session:
        await ledger.open_tick(
            session,
            job.name,
            turns.tick,
            nominal_time=asked.nominal_time,
            workflow_id=asked.workflow_id,
            run_id=asked.run_id,
        )


class ShardPages:
    """Reads the tenants of shards page by page."""

    def __init__(self, size: int = PAGE_SIZE) -> None:
        """`size` is the number of tenants in a page, at most."""
        self._size = size

    @platform_activity("reads whose turns are next in a shard")
    async def next_page(self, request: NextPage) -> Page:
        """Returns a shard's next tenants to run, and skips those that may no longer run.

        Raises:
            UnknownJob: this release has no job of that name.
        """
        job = registry.get_or_raise(request.job)
        async with platform_session("read a page of the ledger") as session:
            turns = await ledger.page(
                session,
                request.job,
                request.tick,
                planned_by=request.planned_by,
                after=request.after,
                upto=request.upto,
                limit=self._size,
            )
        releases = await Releases(current_database()).ramping()
        tenants = {
            tenant.id: tenant
            for tenant in await current_directory().find_many([turn.tenant_id for turn in turns])
            if planning.is_asked_for(tenant, request.statuses)
        }
        candidates: list[Candidate] = []
        skipped: list[Entry] = []
        for turn in turns:
            tenant = tenants.get(turn.tenant_id)
            due_at = turn.position.due_at
            entry = (
                planning.planned(job, tenant, request.tick, due_at)
                if tenant is not None
                else _gone(turn, request)
            )
            # A row that says running has a run, which is followed to its end even if the tenant
            # may not start one now.
            if entry.state is LedgerState.SKIPPED and turn.state is not LedgerState.RUNNING:
                skipped.append(entry)
            else:
                weight = tenant.plan.fairness_weight if tenant else 1.0
                candidates.append(
                    Candidate(
                        tenant_id=turn.tenant_id,
                        weight=weight,
                        due_at=due_at,
                        released=any(
                            release.has(turn.tenant_id, job.queue) for release in releases
                        ),
                    )
                )
        if skipped:
            async with platform_session("skip tenants") as session:
                await ledger.plan(
                    session, request.job, request.tick, skipped, planned_by=request.planned_by
                )
        last = turns[-1].position if len(turns) == self._size else None
        return Page(candidates=candidates, skipped=len(skipped), last=last)


@platform_activity("writes the outcomes of tenants' jobs into the ledger")
async def record_outcomes(request: RecordOutcomes) -> None:
    """Writes outcomes of children into the ledger; the last one of each tenant counts."""
    latest = {outcome.tenant_id: outcome for outcome in request.outcomes}
    started = {
        outcome.tenant_id: outcome
        for outcome in request.outcomes
        if outcome.state is LedgerState.RUNNING and latest[outcome.tenant_id] is not outcome
    }
    async with platform_session("record outcomes") as session:
        for outcomes in (started.values(), latest.values()):
            entries = [Entry(**outcome.model_dump()) for outcome in outcomes]
            if entries:
                await ledger.record(session, request.job, request.tick, entries)


@platform_activity("closes a fan-out's ticks")
async def close_ticks(request: CloseTicks) -> None:
    """Records how a fan-out ended, and marks the tenants that it did not reach as not started."""
    async with platform_session("close ticks") as session:
        ticks = request.ticks
        if ticks is None:
            ticks = list(await ledger.ticks_of_run(session, request.job, request.run_id))
        for tick in ticks:
            if request.state is not TickState.ENDED:
                await ledger.abandon(
                    session,
                    request.job,
                    tick,
                    request.reason or "",
                    planned_by=request.workflow_id,
                )
            await ledger.close_tick(
                session,
                request.job,
                tick,
                request.state,
                workflow_id=request.workflow_id,
                reason=request.reason,
            )


@platform_activity("reads the state of a tenant's job that another run started")
async def look_at_child(child: ChildRef) -> TenantOutcome | None:
    """Returns the outcome of a child, or None while it is running.

    If something else uses the child's workflow id, this records the dead letter, because no other
    process does.

    Raises:
        ApplicationError: the server has no such run; retryable.
        RPCError: the server does not answer.
    """
    found = await state_of_child(activity.client(), child.tenant_id, child.workflow_id)
    if found is None:  # but its id was in use a moment ago
        raise ApplicationError(f"the server has no workflow {child.workflow_id}.")
    if found.error_type == WorkflowIdTaken.__name__:
        letter = Letter(
            child.workflow_id,
            Source.FAN_OUT,
            found.error_type,
            (found.reason or "").removeprefix(f"{found.error_type}: "),
            attempts=1,
        )
        async with platform_session("record that an id is taken") as session:
            await put_letters(session, [letter])
    return None if found.state is LedgerState.RUNNING else found


@platform_activity("starts a tenant's run on the worker version that is released to it")
async def start_released(request: StartReleased) -> StartedRun | None:
    """Starts a tenant's run; returns None if another run has its id.

    The server's `versioning_override` of a child start needs server 1.32, which earlier ones
    ignore. A client's start is heeded by all. The client chooses the version, so a release that
    has ended since the page was read, or whose workers have, no longer counts.

    Raises:
        TenancyError: the start is refused.
        RPCError: the server does not answer.
    """
    job = registry.get_or_raise(request.job)
    client = activity.client()
    started_by = {STARTED_BY: request.shard_run}
    try:
        with enter(TenantScope(request.tenant_id)):
            handle = await client.start_workflow(
                job.name,
                child_input(job, request.tenant_id, request.tick, request.extra),
                id=request.workflow_id,
                task_queue=job.queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                priority=Priority(fairness_weight=request.weight),
                memo=started_by,
            )
            run_id = handle.first_execution_run_id
    except WorkflowAlreadyStartedError:
        run_id = None
    described = await client.get_workflow_handle(request.workflow_id, run_id=run_id).describe()
    # An earlier attempt of this activity may have started it.
    if run_id is None and await described.memo_value(STARTED_BY, default=None) != request.shard_run:
        return None
    version = _version(described)
    return StartedRun(
        run_id=described.run_id,
        build_id=version.build_id or None,
        deployment=version.deployment_name or None,
    )


@platform_activity("reads which of the runs that a shard's activities started have ended")
async def look_at_runs(request: LookAtRuns) -> EndedRuns:
    """Returns the outcomes of the runs that have ended.

    Raises:
        RPCError: the server does not answer.
    """
    client = activity.client()
    slots = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def look(run: Outside) -> TenantOutcome:
        try:
            async with slots:
                found = await state_of_child(client, run.tenant_id, run.workflow_id)
            if found is None:
                raise RunGone(f"the server no longer has {run.workflow_id}.")
        except RPCError:
            raise
        except Exception as error:  # of this run alone: the others are still looked at
            found = outcome_of_failure(
                run.tenant_id, error, workflow_id=run.workflow_id, run_id=None
            )
        version = {"build_id": run.build_id, "deployment": run.deployment}
        return found.model_copy(update=version)

    found = await asyncio.gather(*map(look, request.runs))
    return EndedRuns(outcomes=[each for each in found if each.state is not LedgerState.RUNNING])


def _version(run: WorkflowExecutionDescription) -> WorkerDeploymentVersion:
    """Returns a run's pinned version, whose fields are empty if it has no override."""
    return run.raw_info.versioning_info.versioning_override.pinned.version


def _gone(turn: Turn, request: NextPage) -> Entry:
    kinds = ", ".join(request.statuses) if request.statuses else "not deleted"
    why = TenantUnknown(f"{turn.tenant_id} no longer belongs to this tick's tenants: {kinds}.")
    return planning.skipped(turn.tenant_id, why, turn.position.due_at)

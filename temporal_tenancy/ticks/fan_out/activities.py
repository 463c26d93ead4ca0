"""The effects of a fan-out: enumeration and the ledger, always a page at a time."""

from __future__ import annotations

from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.ledger import Entry, Turn
from temporal_tenancy.control_plane.models import LedgerState, TickState
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.directory import current_directory
from temporal_tenancy.core.errors import TenantUnknown
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.sdk.taken_ids import WorkflowIdTaken
from temporal_tenancy.ticks.fan_out import planning
from temporal_tenancy.ticks.fan_out.children import state_of_child
from temporal_tenancy.ticks.fan_out.models import (
    Candidate,
    ChildRef,
    CloseTicks,
    NextPage,
    Outcome,
    Page,
    Plan,
    PlanTicks,
    RecordOutcomes,
    ShardPlan,
)
from temporal_tenancy.ticks.fan_out.planning import TickTurns

# Tenants. So few that most of a page run while the directory's cache still has them; each of a
# larger page's later ones would be looked up again.
PAGE_SIZE: Final = 100


@platform_activity("plans a fan-out: enumerates tenants and writes the ledger")
async def plan_ticks(asked: PlanTicks) -> Plan:
    """Writes a row for each tenant, planned or skipped, and divides the tenants into shards.

    Done again, perhaps after it was killed half-way, it writes the same.
    """
    job = registry.get_or_raise(asked.request.job)
    plan = Plan(ticks=[], shards=[], tenants=0, already=0)
    for turns in planning.turns(job, asked.request, asked.nominal_time, asked.now):
        await _plan_tick(job, asked, turns, plan)
    return plan


async def _plan_tick(job: Job, asked: PlanTicks, turns: TickTurns, plan: Plan) -> None:
    tenants = 0
    if turns.zones is None:  # a tick of which no tenant is due yet has not begun
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
        await ledger.all_planned(session, job.name, turns.tick)
        slices = await ledger.slices(
            session,
            job.name,
            turns.tick,
            planned_by=planned_by,
            size=asked.request.shard_size,
        )
    afters = [None, *(each.upto for each in slices)]
    plan.ticks.append(turns.tick)
    plan.shards += [
        ShardPlan(tick=turns.tick, after=after, upto=each.upto, tenants=each.tenants)
        for after, each in zip(afters, slices, strict=False)
    ]
    plan.tenants += tenants
    plan.already += tenants - sum(each.tenants for each in slices)


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
    """Reads shards page by page."""

    def __init__(self, size: int = PAGE_SIZE) -> None:
        """`size` is how many tenants a page has at most."""
        self._size = size

    @platform_activity("reads whose turns are next in a shard")
    async def next_page(self, request: NextPage) -> Page:
        """The next tenants of a shard that are to run. Who may no longer run is skipped here."""
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
            # What runs, or ran when its worker was lost, is followed to its end whoever it is.
            if entry.state is LedgerState.SKIPPED and turn.state is not LedgerState.RUNNING:
                skipped.append(entry)
            else:
                weight = tenant.plan.fairness_weight if tenant else 1.0
                candidates.append(Candidate(tenant_id=turn.tenant_id, weight=weight, due_at=due_at))
        if skipped:
            async with platform_session("skip tenants") as session:
                await ledger.plan(
                    session, request.job, request.tick, skipped, planned_by=request.planned_by
                )
        last = turns[-1].position if len(turns) == self._size else None
        return Page(candidates=candidates, skipped=len(skipped), last=last)


@platform_activity("writes the outcomes of tenants' jobs into the ledger")
async def record_outcomes(request: RecordOutcomes) -> None:
    """Writes what is known of children. The latest word on a tenant counts."""
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
    """Writes how a fan-out ended, and that what it had still to start was not started."""
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


@platform_activity("asks the server what became of a tenant's job that another run started")
async def look_at_child(child: ChildRef) -> Outcome | None:
    """What became of a child; None while it is running.

    Where something else has its id, nobody else writes its dead letter.
    """
    found = await state_of_child(activity.client(), child.tenant_id, child.workflow_id)
    if found is None:  # it was there a moment ago
        raise ApplicationError(f"{child.workflow_id} is not known to the server.")
    if found.error_type == WorkflowIdTaken.__name__:
        letter = Letter(
            child.workflow_id,
            Source.FAN_OUT,
            found.error_type,
            (found.reason or "").removeprefix(f"{found.error_type}: "),
            attempts=1,
        )
        async with platform_session("write that an id was taken") as session:
            await put_letters(session, [letter])
    return None if found.state is LedgerState.RUNNING else found


def _gone(turn: Turn, request: NextPage) -> Entry:
    kinds = ", ".join(request.statuses) if request.statuses else "not deleted"
    why = TenantUnknown(f"{turn.tenant_id} is no longer among the tenants of this tick: {kinds}.")
    return planning.skipped(turn.tenant_id, why, turn.position.due_at)

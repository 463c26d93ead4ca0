"""The effects of a fan-out: enumeration and the ledger, always a page at a time."""

from __future__ import annotations

from typing import Final

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from temporal_tenancy.activities import platform_activity
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.ledger import Entry
from temporal_tenancy.control_plane.models import LedgerState, TickState
from temporal_tenancy.database import platform_session
from temporal_tenancy.directory import Tenant, TenantStatus, current_directory
from temporal_tenancy.fan_out.models import (
    Candidate,
    ChildRef,
    CloseTick,
    NextPage,
    Outcome,
    Page,
    PlanTick,
    RecordOutcomes,
    TickPlan,
)
from temporal_tenancy.fan_out.outcomes import outcome_of_failure
from temporal_tenancy.identifiers import WorkflowId
from temporal_tenancy.jobs import Job, registry
from temporal_tenancy.tenant_state import refusal

PAGE_SIZE: Final = 500  # tenants; about 20 KiB of payload


@platform_activity("plans a tick: enumerates tenants and writes the ledger")
async def plan_tick(request: PlanTick) -> TickPlan:
    """Writes a row for each tenant, planned or skipped, and divides the tenants into shards."""
    job = registry.get_or_raise(request.job)
    async with platform_session("open a tick") as session:
        await ledger.open_tick(
            session,
            request.job,
            request.tick,
            nominal_time=request.nominal_time,
            workflow_id=request.workflow_id,
            run_id=request.run_id,
        )
    plan = TickPlan(boundaries=[], tenants=0)
    after: str | None = None
    while tenants := await _tenants(after, request.shard_size, request.statuses):
        activity.heartbeat(after)
        entries = [_planned(job, tenant, request.tick) for tenant in tenants]
        async with platform_session("plan a tick") as session:
            await ledger.plan(session, request.job, request.tick, entries)
        after = tenants[-1].id
        plan.boundaries.append(after)
        plan.tenants += len(tenants)
    return plan


@platform_activity("enumerates the tenants of a shard")
async def next_page(request: NextPage) -> Page:
    """The next tenants of a shard that are to run. Who may no longer run is skipped here."""
    job = registry.get_or_raise(request.job)
    found = await _tenants(request.after, PAGE_SIZE, request.statuses)
    tenants = [tenant for tenant in found if tenant.id <= request.upto]
    if not tenants:
        return Page(candidates=[], skipped=0, already=0, last=None)
    ids = [tenant.id for tenant in tenants]
    skipped = [
        entry
        for tenant in tenants
        if (entry := _planned(job, tenant, request.tick)).state is LedgerState.SKIPPED
    ]
    async with platform_session("read a page of the ledger") as session:
        if skipped:
            await ledger.plan(session, request.job, request.tick, skipped)
        runnable = set(await ledger.to_run(session, request.job, request.tick, ids))
    candidates = [
        Candidate(tenant_id=tenant.id, weight=tenant.plan.fairness_weight)
        for tenant in tenants
        if tenant.id in runnable
    ]
    more = len(found) == PAGE_SIZE and found[-1].id < request.upto
    return Page(
        candidates=candidates,
        skipped=len(skipped),
        already=len(tenants) - len(skipped) - len(candidates),
        last=ids[-1] if more else None,
    )


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


@platform_activity("closes a tick")
async def close_tick(request: CloseTick) -> None:
    """Writes how a tick ended, and that what is left of it was not started."""
    async with platform_session("close a tick") as session:
        if request.state is not TickState.ENDED:
            await ledger.abandon(session, request.job, request.tick, request.reason)
        await ledger.close_tick(
            session, request.job, request.tick, request.state, workflow_id=request.workflow_id
        )


@platform_activity("asks the server what became of a tenant's job that another run started")
async def look_at_child(child: ChildRef) -> Outcome | None:
    """What became of a child; None while it is running."""
    handle = activity.client().get_workflow_handle(child.workflow_id)
    described = await handle.describe()
    if described.status is WorkflowExecutionStatus.RUNNING:
        return None
    common = {"workflow_id": child.workflow_id, "run_id": described.run_id}
    if described.status is WorkflowExecutionStatus.COMPLETED:
        return Outcome(tenant_id=child.tenant_id, state=LedgerState.SUCCEEDED, **common)
    try:
        await handle.result()
    except WorkflowFailureError as error:
        return outcome_of_failure(child.tenant_id, error.cause, **common)
    return Outcome(tenant_id=child.tenant_id, state=LedgerState.SUCCEEDED, **common)


async def _tenants(
    after: str | None, limit: int, statuses: list[TenantStatus] | None
) -> list[Tenant]:
    return list(await current_directory().page(after=after, limit=limit, statuses=statuses))


def _planned(job: Job, tenant: Tenant, tick: str) -> Entry:
    workflow_id = str(WorkflowId(tenant.id, job.name, tick))
    refused = refusal(tenant, job)
    if refused is None:
        return Entry(tenant.id, LedgerState.PLANNED, workflow_id=workflow_id)
    return Entry(
        tenant.id,
        LedgerState.SKIPPED,
        reason=refused.sentence,
        error_type=refused.type,
        workflow_id=workflow_id,
    )

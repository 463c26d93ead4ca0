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
from temporal_tenancy.errors import TenancyError, TenantUnknown
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

# Tenants. So few that most of a page run while the directory's cache still has them; each of a
# larger page's later ones would be looked up again.
PAGE_SIZE: Final = 100


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
    async with platform_session("read a page of the ledger") as session:
        rows = await ledger.page(
            session,
            request.job,
            request.tick,
            after=request.after,
            upto=request.upto,
            limit=PAGE_SIZE,
        )
    if not rows:
        return Page(candidates=[], skipped=0, already=0, last=None)
    tenants = await _tenants_between(request, rows[-1][0])
    candidates: list[Candidate] = []
    skipped: list[Entry] = []
    for tenant_id, state in rows:
        if state is LedgerState.SUCCEEDED:
            continue
        tenant = tenants.get(tenant_id)
        entry = _planned(job, tenant, request.tick) if tenant else _gone(tenant_id, request)
        # What runs, or ran when its worker was lost, is followed to its end whoever it is.
        if entry.state is LedgerState.SKIPPED and state is not LedgerState.RUNNING:
            skipped.append(entry)
        else:
            weight = tenant.plan.fairness_weight if tenant else 1.0
            candidates.append(Candidate(tenant_id=tenant_id, weight=weight))
    if skipped:
        async with platform_session("skip tenants") as session:
            await ledger.plan(session, request.job, request.tick, skipped)
    return Page(
        candidates=candidates,
        skipped=len(skipped),
        already=len(rows) - len(skipped) - len(candidates),
        last=rows[-1][0] if len(rows) == PAGE_SIZE else None,
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
            await ledger.abandon(
                session,
                request.job,
                request.tick,
                request.reason,
                workflow_id=request.workflow_id,
            )
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


async def _tenants_between(request: NextPage, last: str) -> dict[str, Tenant]:
    """The directory's tenants behind `request.after`, up to and including `last`."""
    found: dict[str, Tenant] = {}
    after = request.after
    while page := await _tenants(after, PAGE_SIZE, request.statuses):
        found.update({tenant.id: tenant for tenant in page if tenant.id <= last})
        after = page[-1].id
        if after >= last:
            break
    return found


def _planned(job: Job, tenant: Tenant, tick: str) -> Entry:
    try:
        workflow_id = str(WorkflowId(tenant.id, job.name, tick))
    except TenancyError as error:  # too long an id, for this tenant alone
        return _skipped(tenant.id, error)
    refused = refusal(tenant, job)
    if refused is not None:
        return _skipped(tenant.id, refused)
    return Entry(tenant.id, LedgerState.PLANNED, workflow_id=workflow_id)


def _gone(tenant_id: str, request: NextPage) -> Entry:
    kinds = ", ".join(request.statuses) if request.statuses else "not deleted"
    return _skipped(
        tenant_id,
        TenantUnknown(f"{tenant_id} is no longer among the tenants of this tick: {kinds}."),
    )


def _skipped(tenant_id: str, why: TenancyError) -> Entry:
    return Entry(tenant_id, LedgerState.SKIPPED, reason=why.sentence, error_type=why.type)

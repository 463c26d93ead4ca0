"""Ticks: the ledger, as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

import connect
from cli import given as reading
from cli.answers import Answer, lines, number, table, when
from cli.failures import TickUnknown
from cli.servers import control_plane
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.models import LedgerRow, LedgerState, TickRow, TickState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.database import Database
from temporal_tenancy.jobs import Job
from temporal_tenancy.tenant_state import refusal

COUNTED = (LedgerState.SUCCEEDED, LedgerState.FAILED, LedgerState.SKIPPED)
UNDER_WAY = (LedgerState.PLANNED, LedgerState.RUNNING)


async def show_all(job: str | None, limit: int) -> Answer:
    """The ticks that began last, of one job or of all; `UnknownJob` where there is no such job."""
    if job is not None:
        reading.tenant_job(job)
    async with control_plane() as database, database.platform_session("list ticks") as session:
        found = await ledger.latest_ticks(session, job=job, limit=limit)
        documents: list[dict[str, Any]] = [
            {
                "job": tick.job,
                "tick": tick.tick,
                "state": tick.state,
                **_counts(await ledger.count(session, tick.job, tick.tick)),
                "nominal_time": tick.nominal_time,
                "started_at": tick.started_at,
                "ended_at": tick.ended_at,
                "workflow_id": tick.workflow_id,
                "run_id": tick.run_id,
            }
            for tick in found
        ]
    titles = ("job", "tick", "state", "planned", "succeeded", "failed", "skipped", "started_at")
    rows = [
        [when(document[name]) if name == "started_at" else document[name] for name in titles]
        for document in documents
    ]
    return Answer(documents, table([title.replace("_at", "") for title in titles], rows))


async def show(job_name: str, tick: str | None) -> Answer:
    """What became of each tenant; raises `TickUnknown` where the tick never began."""
    job = reading.tenant_job(job_name)
    async with control_plane() as database:
        async with database.platform_session("show a tick") as session:
            row = await _find(session, job, tick)
            entries = await ledger.rows(session, job.name, row.tick)
        open_still = row.state == TickState.RUNNING and await _runs(row)
        missed = await _missed(database, job, entries, open_still=open_still)
    counted = dict.fromkeys(LedgerState, 0)
    for entry in entries:
        counted[LedgerState(entry.state)] += 1
    document = {
        "tick": row.tick,
        "job": job.name,
        "state": row.state,
        **_counts(counted),
        "missed": len(missed),
        "tenants": [
            {
                "tenant_id": entry.tenant_id,
                "state": entry.state,
                "reason": entry.reason,
                "missed": entry.tenant_id in missed,
                "attempts": entry.attempts,
                "workflow_id": entry.workflow_id,
                "run_id": entry.run_id,
            }
            for entry in entries
        ],
    }
    return Answer(document, _text(document, row, entries, missed))


async def _find(session: AsyncSession, job: Job, tick: str | None) -> TickRow:
    if tick is not None:
        row = await ledger.find_tick(session, job.name, tick)
    else:
        row = next(iter(await ledger.latest_ticks(session, job=job.name, limit=1)), None)
    if row is None:
        which = f"no tick {tick}" if tick else "no ticks yet"
        raise TickUnknown(
            f'{job.name} has {which}. "starter.py ticks list {job.name}" shows those there are; '
            f'"starter.py fan-out {job.name}" begins one.'
        )
    return row


async def _runs(tick: TickRow) -> bool:
    """Whether the fan-out still runs: one that was terminated could not say so in the ledger."""
    client = await connect.connect_client()
    try:
        described = await client.get_workflow_handle(
            tick.workflow_id, run_id=tick.run_id
        ).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return described.status is WorkflowExecutionStatus.RUNNING


async def _missed(
    database: Database, job: Job, entries: Sequence[LedgerRow], *, open_still: bool
) -> set[str]:
    """Those that have not succeeded, are not under way, and may run now."""
    settled = {LedgerState.SUCCEEDED, *(UNDER_WAY if open_still else ())}
    left = {entry.tenant_id for entry in entries if entry.state not in settled}
    if not left:
        return left
    return {
        tenant.id
        async for tenant in Tenants(database).list()
        if tenant.id in left and refusal(tenant, job) is None
    }


def _counts(counted: dict[LedgerState, int]) -> dict[str, int]:
    """`planned` counts every row; what is neither done nor skipped is told where there is any."""
    rest = {
        "running": counted[LedgerState.RUNNING],
        "waiting": counted[LedgerState.PLANNED],
        "not_started": counted[LedgerState.NOT_STARTED],
    }
    return {
        "planned": sum(counted.values()),
        **{str(state): counted[state] for state in COUNTED},
        **rest,
    }


def _text(
    document: dict[str, Any], tick: TickRow, entries: Sequence[LedgerRow], missed: set[str]
) -> Any:  # rich's renderable
    counts = ", ".join(
        f"{document[name]:,} {name.replace('_', ' ')}"
        for name in ("succeeded", "failed", "skipped", "running", "waiting", "not_started")
        if document[name] or name in COUNTED
    )
    began = f"began {when(tick.started_at)}"
    ended = f", {tick.state} {when(tick.ended_at)}" if tick.ended_at else ", is running"
    rows = [
        (entry.tenant_id, entry.state.replace("_", " "), entry.reason)
        for entry in entries
        if entry.state != LedgerState.SUCCEEDED
    ]
    return lines(
        f"{tick.job} {tick.tick}: {number(document['planned'], 'tenant')}, {counts}.",
        f"It {began}{ended}.",
        table(("tenant", "state", "why"), rows) if rows else None,
        f'{number(len(missed), "tenant")} missed: "starter.py fan-out {tick.job} '
        f'--tick {tick.tick} --wait" runs them.'
        if missed
        else None,
    )

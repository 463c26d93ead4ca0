"""Finds the tenants that a tick missed, and runs their jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import typer
from rich.console import RenderableType
from temporalio.client import WorkflowFailureError

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.cli._failures import TickUnknown
from temporal_tenancy.cli._fairness import warn_where_off
from temporal_tenancy.cli._following import result_of, waiting_for, where_failed
from temporal_tenancy.cli._missed_reasons import reason_then
from temporal_tenancy.cli._periods import is_over_somewhere
from temporal_tenancy.cli._server_access import Servers, as_platform, servers
from temporal_tenancy.cli._waiting import problem_of, warn_without_worker
from temporal_tenancy.cli.answers import Answer, Problem, address, lines, minute, table, whole
from temporal_tenancy.cli.fan_outs import COUNTS, Handle, as_scheduled, local_cron, start
from temporal_tenancy.cli.program import quoted
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import TickRow, TickState
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.ticks.fan_out import FanOutResult
from temporal_tenancy.ticks.reconcile.missed import (
    Missed,
    missed_tenants,
    note_missed_ticks,
    unplanned_ticks,
)
from temporal_tenancy.ticks.reconcile.settlement import Settlement

SHOWN: Final = 20  # tenants of a tick, in the text for people


@dataclass(frozen=True)
class Part:
    """A tick with the tenants that it missed."""

    job: Job
    tick: TickRow
    missed: Sequence[Missed]


async def missed(job_name: str | None, tick: str | None) -> Answer:
    """Lists ticks that never began, and tenants that may run their jobs but have not."""
    _check(job_name, tick)
    async with servers() as connections:
        with as_platform(connections.database):
            parts = await _parts(connections, job_name, tick)
    total = sum(len(part.missed) for part in parts)
    documents = [
        {
            "job": part.job.name,
            "tick": part.tick.tick,
            "state": part.tick.state,
            "reason": part.tick.reason,
            "nominal_time": part.tick.nominal_time,
            "missed": len(part.missed),
            "tenants": [
                {
                    "tenant_id": each.tenant_id,
                    "state": each.state,
                    "reason": reason_then(each),
                }
                for each in part.missed
            ],
        }
        for part in parts
    ]
    if not parts:
        return Answer({"missed": 0, "ticks": []}, "Nobody was missed.")
    text = lines(
        *(each for part in parts for each in _shown(part)),
        f"{number(total, 'tenant')} missed in {number(len(parts), 'tick')}: "
        f"{quoted_command('ticks', 'catch-up', *_words(job_name, tick), '--wait')} runs them.",
    )
    return Answer({"missed": total, "ticks": documents}, text)


async def catch_up(
    job_name: str | None, tick: str | None, *, wait: bool, quiet: bool = False
) -> Answer:
    """Runs the jobs of missed tenants, each in its own tick; skips those that have succeeded."""
    _check(job_name, tick)
    async with servers() as connections:
        with as_platform(connections.database):
            parts = await _parts(connections, job_name, tick)
        fan_outs = [(part, *await _start(connections, part)) for part in parts]
        documents: list[dict[str, Any]] = [
            {
                "job": part.job.name,
                "tick": part.tick.tick,
                "workflow_id": handle.id,
                "run_id": handle.run_id,
                "url": connections.link(handle.id, handle.run_id),
                "started": started,
                "missed": len(part.missed),
                **dict.fromkeys(COUNTS),
            }
            for part, handle, started in fan_outs
        ]
        if parts:
            await warn_where_off(connections.database, connections.client.namespace)
        if not wait or not parts:
            return _answer(documents, waited=wait or not parts)
        with ExitStack() as waits:
            for document in documents:
                stands = "has started." if document["started"] else "is running already."
                run = document["workflow_id"], stands, document["url"]
                waits.enter_context(waiting_for(*run, quiet=quiet))
            for queue in {part.job.queue for part in parts}:
                await warn_without_worker(connections.client, queue)
            client, many = connections.client, len(fan_outs) > 1
            results = await asyncio.gather(
                *(result_of(client, handle, quiet=quiet or many) for _, handle, _ in fan_outs),
                return_exceptions=True,
            )
    for document, result in zip(documents, results, strict=True):
        if isinstance(result, FanOutResult):
            document |= {name: getattr(result, name) for name in COUNTS}
            document["failures"] = [failure.model_dump() for failure in result.failures]
        elif isinstance(result, WorkflowFailureError):
            document["error"] = str(problem_of(result))
        else:
            raise result
    return _answer(documents, waited=True)


def _answer(documents: list[dict[str, Any]], *, waited: bool) -> Answer:
    only = documents[0] if len(documents) == 1 else None
    totals = {
        name: sum(document[name] or 0 for document in documents) if waited else None
        for name in COUNTS
    }
    document = {
        "job": only["job"] if only else None,
        "tick": only["tick"] if only else None,
        "url": only["url"] if only else None,
        **totals,
        "ticks": documents,
    }
    if not documents:
        return Answer(document, "Nobody was missed.")
    titles = ("job", "tick", "missed", *(COUNTS if waited else ()))
    rows = [[whole(str(each[title])) for title in titles] for each in documents]
    failures = [
        (whole(each["tick"]), failure["tenant_id"], failure["reason"])
        for each in documents
        for failure in each.get("failures", ())
    ]
    text = lines(
        table(titles, rows),
        table(("tick", "failed", "why"), failures) if failures else None,
        *(
            where_failed(each["url"], _problem([each])) if waited else address(each["url"])
            for each in documents
        ),
    )
    return Answer(document, text, _problem(documents))


def _problem(documents: Sequence[dict[str, Any]]) -> Problem | None:
    broken = [document for document in documents if "error" in document]
    if broken:
        return Problem("TicksFailed", "; ".join(str(document["error"]) for document in broken))
    failed = sum(document["failed"] or 0 for document in documents)
    if not failed:
        return None
    return Problem(
        "TenantsFailed",
        f"{number(failed, 'tenant')} failed again. {quoted('ticks missed')} lists them with "
        "the reasons.",
    )


async def _parts(connections: Servers, job_name: str | None, tick: str | None) -> Sequence[Part]:
    """Settles ticks, and returns those that missed tenants, in order of job and time."""
    now = datetime.now(UTC)
    await note_missed_ticks(connections.client, now)
    settlement = Settlement(connections.client)
    parts = []
    for job, row in await unfinished(job_name, tick, now):
        if not is_over_somewhere(job, row.tick, now):
            continue
        if row.state != TickState.MISSED:
            await settlement.settle(job, row.tick)
            row = await _again(row)
        tenants = await missed_tenants(
            job,
            row,
            statuses=as_scheduled(job, row.tick).statuses,
            local_cron=local_cron(job),
            now=now,
        )
        if tenants:
            parts.append(Part(job, row, tenants))
    return parts


async def _again(row: TickRow) -> TickRow:
    """Returns a tick in its present state."""
    async with platform_session("read a tick again") as session:
        return await ledger.find_tick(session, row.job, row.tick) or row


async def unfinished(
    job_name: str | None, tick: str | None, now: datetime
) -> Sequence[tuple[Job, TickRow]]:
    """Returns the ticks that may have missed tenants, each with its job."""
    async with platform_session("read unfinished ticks") as session:
        rows = await ledger.unfinished_ticks(session, job=job_name, tick=tick)
        if job_name is not None and tick is not None:
            job = arguments.tenant_job(job_name)
            row = await ledger.find_tick(session, job.name, tick)
            return [(job, row or _never_begun(job, tick))]
        ticks = []
        for row in rows:
            job_of_row = registry.get(row.job)  # None: the application no longer has it
            if job_of_row is None:
                continue
            # Without a period only a job's last tick counts: it does the work of those before.
            if job_of_row.period or await ledger.is_newest(session, row):
                ticks.append((job_of_row, row))
    for job in (job for job in registry.values() if job_name in (None, job.name)):
        ticks += await _unplanned(
            job, {row.tick for job_of_row, row in ticks if job_of_row is job}, now
        )
    return sorted(ticks, key=lambda each: (each[0].name, each[1].tick))


async def _unplanned(job: Job, seen: Collection[str], now: datetime) -> list[tuple[Job, TickRow]]:
    """Returns finished ticks of which no fan-out planned all tenants in time."""
    cron = local_cron(job)
    if cron is None:
        return []
    async with platform_session("read ticks that began") as session:
        begun = [row for row in await ledger.begun_ticks(session, job.name) if row.tick not in seen]
    statuses = as_scheduled(job, "any").statuses
    unplanned = await unplanned_ticks(job, begun, statuses=statuses, local_cron=cron, now=now)
    return [(job, row) for row in unplanned]


def _never_begun(job: Job, tick: str) -> TickRow:
    if job.period is None:
        raise TickUnknown(
            f"{job.name} has no tick {tick}. {quoted_command('ticks', 'list', job.name)} lists its "
            "ticks."
        )
    return TickRow(job=job.name, tick=tick, state=TickState.MISSED, reason="never began.")


def _check(job_name: str | None, tick: str | None) -> None:
    """Raises `UnknownJob`, or `typer.BadParameter` for what is no tick or a tick that is not over.

    Needs no server.
    """
    if job_name is None and tick is not None:
        raise typer.BadParameter("a tick belongs to a job: name the job.", param_hint="--tick")
    job = None if job_name is None else arguments.tenant_job(job_name)
    if job is None or tick is None or job.period is None:
        return
    try:
        job.period.checked(tick)
    except ValueError as error:
        raise typer.BadParameter(
            f"{job.name} works on a {job.period}, and {tick} is not one: {error}.",
            param_hint="--tick",
        ) from None
    if not is_over_somewhere(job, tick, datetime.now(UTC)):
        raise typer.BadParameter(
            f"{tick} is not over yet, so it cannot have missed a tenant.", param_hint="--tick"
        )


async def _start(connections: Servers, part: Part) -> tuple[Handle, bool]:
    planned = part.tick.planned_at is not None  # otherwise the fan-out is for all tenants
    request = as_scheduled(part.job, part.tick.tick).model_copy(update={"missed": planned})
    return await start(connections, part.job, request)


def _shown(part: Part) -> Sequence[RenderableType | None]:
    tick = part.tick
    due = f", due {minute(tick.nominal_time)}," if tick.nominal_time else ""
    if tick.state == TickState.MISSED:
        for_whom = f"It was for {number(len(part.missed), 'tenant')}."
        return [f"{tick.job} {tick.tick}{due} {tick.reason} {for_whom}"]
    rows = [
        (
            tenant.tenant_id,
            (tenant.state or "unplanned").replace("_", " "),
            reason_then(tenant),
        )
        for tenant in part.missed[:SHOWN]
    ]
    more = len(part.missed) - len(rows)
    return [
        f"{tick.job} {tick.tick}{due} missed {number(len(part.missed), 'tenant')}:",
        table(("tenant", "state", "why"), rows),
        f"and {more:,} more; --json shows all." if more else None,
    ]


def _words(job_name: str | None, tick: str | None) -> list[str]:
    return [*([job_name] if job_name else []), *(["--tick", tick] if tick else [])]

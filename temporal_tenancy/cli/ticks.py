"""Shows the ledger of ticks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import RenderableType

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.cli._failures import TickUnknown
from temporal_tenancy.cli._missed_reasons import reason_then
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._periods import is_over_somewhere
from temporal_tenancy.cli._server_access import as_platform, control_plane, temporal
from temporal_tenancy.cli.answers import Answer, lines, minute, say, table, when
from temporal_tenancy.cli.fan_outs import as_scheduled, local_cron
from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import LedgerState, TickRow, TickState
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.ticks.reconcile.missed import Missed, missed_tenants
from temporal_tenancy.ticks.reconcile.settlement import Settlement

SUCCEEDED_SHOWN: Final = 20  # tenants, in the text for people
COUNTED = (LedgerState.SUCCEEDED, LedgerState.FAILED, LedgerState.SKIPPED)


async def show_all(job: str | None, limit: int) -> Answer:
    """Lists the latest ticks, of one job or of all; raises `UnknownJob`."""
    if job is not None:
        arguments.tenant_job(job)
    async with control_plane() as database, database.platform_session("list ticks") as session:
        latest = await ledger.latest_ticks(session, job=job, limit=limit + 1)
        if len(latest) > limit:
            say(f"These are the latest {limit:,}; there are more. --limit shows more.")
            latest = latest[:limit]
        documents: list[dict[str, Any]] = [
            {
                "job": tick.job,
                "tick": tick.tick,
                "state": tick.state,
                **_counts(await ledger.count(session, tick.job, tick.tick)),
                "nominal_time": tick.nominal_time,
                "started_at": None if tick.state == TickState.MISSED else tick.started_at,
                "ended_at": tick.ended_at,
                "workflow_id": tick.workflow_id,
                "run_id": tick.run_id,
            }
            for tick in latest
        ]
    titles = ("job", "tick", "state", "planned", "succeeded", "failed", "skipped", "started_at")
    rows = [
        [minute(document[name]) if name == "started_at" else document[name] for name in titles]
        for document in documents
    ]
    of_job = "" if job is None else f" of {job}"
    return Answer(
        documents,
        table(
            [title.replace("_at", "") for title in titles],
            rows,
            empty=f"No tick{of_job} has begun.",
        ),
    )


async def show(job_name: str, tick: str | None) -> Answer:
    """Shows each tenant's state in a tick; raises `TickUnknown` if the tick never began.

    First brings the ledger up to date with the state of each child on the server.
    """
    job = arguments.tenant_job(job_name)
    now = datetime.now(UTC)
    async with control_plane() as database:
        with as_platform(database):
            row = await _find(job, tick)
            await _settled(job, row.tick)
            async with platform_session("show a tick") as session:
                row = await ledger.find_tick(session, job.name, row.tick) or row
                entries = await ledger.rows(session, job.name, row.tick)
            missed: Sequence[Missed] = ()
            if is_over_somewhere(job, row.tick, now):
                missed = await missed_tenants(
                    job,
                    row,
                    statuses=as_scheduled(job, row.tick).statuses,
                    local_cron=local_cron(job),
                    now=now,
                )
    missed_by_id = {each.tenant_id: each for each in missed}
    counted = dict.fromkeys(LedgerState, 0)
    for entry in entries:
        counted[LedgerState(entry.state)] += 1
    document = {
        "tick": row.tick,
        "job": job.name,
        "state": row.state,
        "reason": row.reason,
        **_counts(counted),
        "missed": len(missed),
        "tenants": [
            {
                "tenant_id": entry.tenant_id,
                "state": entry.state,
                "reason": reason_then(missed_by_id[entry.tenant_id])
                if entry.tenant_id in missed_by_id
                else entry.reason and with_hint(entry.reason),
                "missed": entry.tenant_id in missed_by_id,
                "attempts": entry.attempts,
                "due_at": entry.due_at,
                "workflow_id": entry.workflow_id,
                "run_id": entry.run_id,
            }
            for entry in entries
        ]
        + [
            {
                "tenant_id": each.tenant_id,
                "state": "unplanned",
                "reason": each.reason and with_hint(each.reason),
                "missed": True,
                "attempts": 0,
                "due_at": None,
                "workflow_id": None,
                "run_id": None,
            }
            for each in missed
            if each.state is None
        ],
    }
    return Answer(document, _text(document, row))


async def _settled(job: Job, tick: str) -> None:
    """Settles a tick, or warns that it cannot: people read the ledger during an outage."""
    try:
        async with temporal() as connection:
            await Settlement(connection.client).settle(job, tick)
    except NotReachable as error:
        say(f"{error.sentence} So this is what the ledger says; it may be out of date.")


async def _find(job: Job, tick: str | None) -> TickRow:
    async with platform_session("find a tick") as session:
        if tick is not None:
            row = await ledger.find_tick(session, job.name, tick)
        else:
            row = next(iter(await ledger.latest_ticks(session, job=job.name, limit=1)), None)
    if row is None:
        starts = f"{quoted_command('fan-out', job.name)} starts one."
        if tick is None:
            raise TickUnknown(f"{job.name} has no ticks yet. {starts}")
        raise TickUnknown(
            f"{job.name} has no tick {tick}. {quoted_command('ticks', 'list', job.name)} lists its "
            f"ticks; {starts}"
        )
    return row


def _counts(counted: dict[LedgerState, int]) -> dict[str, int]:
    """Returns the number of rows by state; `planned` counts all of them."""
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


def _text(document: dict[str, Any], tick: TickRow) -> RenderableType:
    counts = ", ".join(
        f"{document[name]:,} {name.replace('_', ' ')}"
        for name in ("succeeded", "failed", "skipped", "running", "waiting", "not_started")
        if document[name] or name in COUNTED
    )
    began = tick.state != TickState.MISSED
    due = f"It was due {minute(tick.nominal_time)}. " if tick.nominal_time else ""
    ended = f", {tick.state} {when(tick.ended_at)}" if tick.ended_at else ", is running"
    # Whoever has not succeeded is shown, and of those who have the first.
    done = [entry for entry in document["tenants"] if entry["state"] == LedgerState.SUCCEEDED]
    others = [entry for entry in document["tenants"] if entry["state"] != LedgerState.SUCCEEDED]
    rows = [
        (entry["tenant_id"], entry["state"].replace("_", " "), entry["reason"])
        for entry in (*others, *done[:SUCCEEDED_SHOWN])
    ]
    titles = ("tenant", "state", "why")
    columns = 3 if any(why for _, _, why in rows) else 2
    more = len(done) - SUCCEEDED_SHOWN
    return lines(
        f"{tick.job} {tick.tick}: {number(document['planned'], 'tenant')}, {counts}.",
        f"{due}Its last fan-out began {when(tick.started_at)}{ended}."
        if began
        else f"{due}It {tick.reason}",
        table(titles[:columns], [row[:columns] for row in rows], empty="It has no tenants.")
        if began
        else None,
        f"and {more:,} more that succeeded; --json shows all." if more > 0 else None,
        f"{number(document['missed'], 'tenant')} missed: "
        f"{quoted_command('ticks', 'catch-up', tick.job, '--tick', tick.tick, '--wait')} runs them."
        if document["missed"]
        else None,
    )

"""Shows what happens now: queues, fan-outs under way, noisy tenants, and workers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import RenderableType
from rich.live import Live
from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.cli._server_access import Servers, servers
from temporal_tenancy.cli.answers import Answer, lines, live_text, minute, out, table, when, whole
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.cli.usage import AGE
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import duration
from temporal_tenancy.deployments.polling import pollers_of
from temporal_tenancy.metering import Usage, usage
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics import gauges
from temporal_tenancy.metrics.gauges import Found

RECENT: Final = timedelta(hours=1)  # of what tenants have used
TENANTS: Final = 10  # shown
FEWEST: Final = 3  # tenants on a low terminal
AROUND: Final = 8  # lines: the time, the blank ones, two above the tenants, the cursor's
LOOKING: Final = "Looking…"  # until the servers have answered
WORKERS: Final = 200  # asked for
TIMEOUT: Final = timedelta(seconds=5)
_UNSUPPORTED: Final = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED)


@dataclass(frozen=True)
class _Worker:
    """A worker of one task queue."""

    identity: str
    queue: str
    version: str  # its build id; empty: unknown
    seen: datetime  # when it last polled
    since: datetime | None  # its start; None: the server has not heard yet

    def document(self) -> dict[str, Any]:  # JSON
        return {
            "identity": self.identity,
            "queue": self.queue,
            "version": self.version or None,
            "seen": self.seen,
            "since": self.since,
        }


async def once() -> Answer:
    """Shows it once."""
    async with servers() as connections:
        return await _look(connections)


async def watch(every: float) -> None:
    """Shows it on the terminal, and again after `every` seconds, until it is cancelled."""
    with Live(live_text(LOOKING), console=out, auto_refresh=False) as live:
        live.refresh()
        async with servers() as connections:
            while True:
                answer = await _look(connections, out.height)
                live.update(live_text(answer.text), refresh=True)
                await asyncio.sleep(every)


async def _look(connections: Servers, height: int | None = None) -> Answer:
    """Returns what happens now, with as many tenants as the terminal's `height` has room for."""
    now = datetime.now(UTC)
    since = (now - RECENT).replace(minute=0, second=0, microsecond=0)  # it is metered by the hour
    queues = current_application().queues or sorted({job.queue for job in registry.values()})
    of_queues, of_ledger, used, workers = await asyncio.gather(
        gauges.of_temporal(connections.client, queues),
        gauges.of_ledger(connections.database),
        usage(connections.database, since=since, until=now),
        _workers(connections.client, queues),
    )
    queue_rows, tick_rows = _queues(of_queues), _fan_outs(of_ledger)
    document = {
        "at": now,
        "queues": queue_rows,
        "fan_outs": tick_rows,
        "tenants": [_tenant(row) for row in used[:TENANTS]],
        "tenants_since": since,
        "workers": [worker.document() for worker in workers],
    }
    room = TENANTS if height is None else _room(height, queue_rows, tick_rows, workers)
    return Answer(document, _text(now, since, queue_rows, tick_rows, used[:room], workers))


def _room(height: int, *others: Sequence[object]) -> int:
    """Returns how many tenants fit on a terminal below and above the other tables."""
    used = AROUND + sum(1 + max(len(rows), 1) for rows in others)
    return max(FEWEST, min(TENANTS, height - used))


def _queues(found: Found) -> list[dict[str, Any]]:  # JSON
    waiting: dict[tuple[str, str], float] = defaultdict(float)
    oldest: dict[tuple[str, str], float] = defaultdict(float)
    for (queue, kind, _), count in found[of.BACKLOG].items():
        waiting[queue, kind] += count
    for (queue, kind, _), age in found[of.BACKLOG_AGE].items():
        oldest[queue, kind] = max(oldest[queue, kind], age)
    workers: dict[tuple[str, str], float] = defaultdict(float)
    for (queue, kind, _), count in found[of.POLLERS].items():
        workers[queue, kind] += count
    return [
        {
            "queue": queue,
            "kind": kind,
            "waiting": int(waiting[queue, kind]),
            "oldest_seconds": oldest[queue, kind],
            "workers": int(count),
        }
        for (queue, kind), count in sorted(workers.items())
    ]


def _fan_outs(found: Found) -> list[dict[str, Any]]:  # JSON
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for (job, state), count in found[of.TICK_TENANTS].items():
        counts[job][state] = int(count)
    return [
        {
            "job": job,
            "running_seconds": seconds,
            "tenants": {
                str(state): counts[job][state] for state in LedgerState if state in counts[job]
            },
        }
        for (job,), seconds in sorted(found[of.TICK_RUNNING].items())
        if seconds > 0
    ]


def _tenant(row: Usage) -> dict[str, Any]:  # JSON
    used = row.used
    return {
        "tenant_id": row.name,
        "worker_seconds": used.worker_seconds,
        "database_seconds": used.database_seconds,
        "attempts": used.attempts,
        "seconds_per_attempt": used.worker_seconds / used.attempts if used.attempts else None,
    }


async def _workers(client: Client, queues: Sequence[str]) -> Sequence[_Worker]:
    polling, starts = await asyncio.gather(
        asyncio.gather(*(pollers_of(client, queue, "workflow") for queue in queues)),
        _starts(client),
    )
    return [
        _Worker(
            poller.identity,
            queue,
            gauges.build_of(poller),
            poller.last_access_time.ToDatetime(UTC),
            starts.get((poller.identity, queue)),
        )
        for queue, pollers in zip(queues, polling, strict=True)
        for poller in sorted(pollers, key=lambda poller: poller.identity)
    ]


async def _starts(client: Client) -> Mapping[tuple[str, str], datetime]:
    """Returns when workers have started, by identity and queue: they report it once a minute."""
    request = ListWorkersRequest(namespace=client.namespace, page_size=WORKERS)
    try:
        answer = await client.workflow_service.list_workers(request, timeout=TIMEOUT)
    except RPCError as error:
        if error.status in _UNSUPPORTED:  # an older server does not list its workers
            return {}
        raise
    beats = (info.worker_heartbeat for info in answer.workers_info)
    return {
        (beat.worker_identity, beat.task_queue): beat.start_time.ToDatetime(UTC) for beat in beats
    }


def _text(
    now: datetime,
    since: datetime,
    queues: Sequence[dict[str, Any]],
    fan_outs: Sequence[dict[str, Any]],
    tenants: Sequence[Usage],
    workers: Sequence[_Worker],
) -> RenderableType:
    return lines(
        f"{when(now)}",
        "",
        table(
            ("queue", "tasks", "waiting", "oldest", "workers"),
            [
                (
                    row["queue"],
                    row["kind"],
                    f"{row['waiting']:,}",
                    _length(row["oldest_seconds"]),
                    row["workers"],
                )
                for row in queues
            ],
            empty="There are no task queues.",
        ),
        "",
        table(
            ("fan-out", "for", "tenants"),
            [
                (
                    row["job"],
                    _length(row["running_seconds"]),
                    ", ".join(f"{count:,} {state}" for state, count in row["tenants"].items()),
                )
                for row in fan_outs
            ],
            empty="No fan-out is under way.",
        ),
        "",
        f"Since {minute(since)}; {AGE}:",
        table(
            ("tenant", "worker seconds", "database seconds", "attempts", "seconds each"),
            [
                (
                    whole(row.name),
                    f"{row.used.worker_seconds:,.1f}",
                    f"{row.used.database_seconds:,.1f}",
                    f"{row.used.attempts:,}",
                    f"{row.used.worker_seconds / row.used.attempts:,.2f}"
                    if row.used.attempts
                    else None,
                )
                for row in tenants
            ],
            empty="Nothing was metered.",
        ),
        "",
        table(
            ("worker", "queue", "version", "since", "age"),
            [
                (
                    whole(worker.identity),
                    worker.queue,
                    whole(worker.version) if worker.version else None,
                    minute(worker.since),
                    None if worker.since is None else duration(now - worker.since),
                )
                for worker in workers
            ],
            empty="No worker polls a task queue.",
        ),
    )


def _length(seconds: float) -> str | None:
    return duration(timedelta(seconds=seconds)) if seconds > 0 else None

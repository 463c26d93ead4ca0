"""Shows what happens now: queues, fan-outs under way, noisy tenants, and workers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from rich.console import RenderableType
from rich.live import Live
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.cli._server_access import Servers, servers
from temporal_tenancy.cli.answers import Answer, lines, live_text, minute, out, table, when, whole
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.cli.usage import AGE
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.deployments.polling import POLLED_WITHIN, pollers_of
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
REMEMBERED: Final = timedelta(minutes=5)  # by the server, after a worker's last poll
_STOPPING: Final = (
    WorkerStatus.WORKER_STATUS_SHUTTING_DOWN,
    WorkerStatus.WORKER_STATUS_SHUTDOWN,
)
_UNSUPPORTED: Final = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED)

_Heartbeats = Mapping[tuple[str, str], WorkerHeartbeat]  # by identity and task queue


class _State(StrEnum):
    """What a worker's signs of life say of it."""

    RUNS = "runs"
    SILENT = "silent"  # it has ended without a word, or hangs
    STOPPING = "stopping"  # it has said so


@dataclass(frozen=True)
class _Worker:
    """A worker of one task queue."""

    identity: str
    queue: str
    version: str  # its build id; empty: unknown
    seen: datetime  # its last sign of life: a poll, or a heartbeat
    since: datetime | None  # its start; None: the server has not heard yet
    state: _State = _State.RUNS

    def document(self) -> dict[str, Any]:  # JSON
        return {
            "identity": self.identity,
            "queue": self.queue,
            "version": self.version or None,
            "seen": self.seen,
            "since": self.since,
            "state": self.state,
        }


async def once(silent_after: timedelta = POLLED_WITHIN) -> Answer:
    """Shows it once; a worker that runs has given a sign of life within `silent_after`."""
    async with servers() as connections:
        return await _look(connections, silent_after=silent_after)


async def watch(every: float) -> None:
    """Shows it on the terminal, and again after `every` seconds, until it is cancelled."""
    with Live(live_text(LOOKING), console=out, auto_refresh=False) as live:
        live.refresh()
        async with servers() as connections:
            while True:
                answer = await _look(connections, out.height)
                live.update(live_text(answer.text), refresh=True)
                await asyncio.sleep(every)


async def _look(
    connections: Servers, height: int | None = None, silent_after: timedelta = POLLED_WITHIN
) -> Answer:
    """Returns what happens now, with as many tenants as the terminal's `height` has room for."""
    now = datetime.now(UTC)
    since = (now - RECENT).replace(minute=0, second=0, microsecond=0)  # it is metered by the hour
    queues = current_application().queues or sorted({job.queue for job in registry.values()})
    of_queues, of_ledger, used, workers = await asyncio.gather(
        gauges.of_temporal(connections.client, queues),
        gauges.of_ledger(connections.database),
        usage(connections.database, since=since, until=now),
        _workers(connections.client, queues, silent_after),
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


async def _workers(
    client: Client, queues: Sequence[str], silent_after: timedelta
) -> Sequence[_Worker]:
    polling, beats = await asyncio.gather(
        asyncio.gather(
            *(pollers_of(client, queue, "workflow", within=REMEMBERED) for queue in queues)
        ),
        _heartbeats(client),
    )
    found = [
        _worker(poller, queue, beats, silent_after)
        for queue, pollers in zip(queues, polling, strict=True)
        for poller in sorted(pollers, key=lambda poller: poller.identity)
    ]
    return [worker for worker in found if worker is not None]


def _worker(
    poller: PollerInfo, queue: str, beats: _Heartbeats | None, silent_after: timedelta
) -> _Worker | None:
    """Returns a worker that the server remembers; None for one that has ended in order."""
    beat = None if beats is None else beats.get((poller.identity, queue))
    seen, since = poller.last_access_time.ToDatetime(UTC), None
    if beat is not None:
        since = beat.start_time.ToDatetime(UTC)
        seen = max(seen, beat.heartbeat_time.ToDatetime(UTC))
    stops = beat is not None and beat.status in _STOPPING
    state = _State.STOPPING if stops else _State.RUNS
    if datetime.now(UTC) - seen > silent_after:
        # Where workers do not say that they stop, those that did would be taken for silent ones.
        if stops or beats is None:
            return None
        state = _State.SILENT
    return _Worker(poller.identity, queue, gauges.build_of(poller), seen, since, state)


async def _heartbeats(client: Client) -> _Heartbeats | None:
    """Returns the workers' last heartbeats; they send one a minute, and one as they stop.

    None: the server does not list its workers.
    """
    request = ListWorkersRequest(namespace=client.namespace, page_size=WORKERS)
    try:
        answer = await client.workflow_service.list_workers(request, timeout=TIMEOUT)
    except RPCError as error:
        if error.status in _UNSUPPORTED:
            return None
        raise
    beats = [info.worker_heartbeat for info in answer.workers_info]
    # One that was started again under its name has two; the later one counts.
    beats.sort(key=lambda beat: beat.start_time.ToDatetime(UTC))
    return {(beat.worker_identity, beat.task_queue): beat for beat in beats}


def _silence(workers: Sequence[_Worker], now: datetime) -> str | None:
    """Says of the workers that have given no sign for long what to make of it."""
    silent = [worker for worker in workers if worker.state is _State.SILENT]
    if not silent:
        return None
    longest = duration(now - min(worker.seen for worker in silent))
    verb = "has" if len(silent) == 1 else "have"
    it = "it has ended, or hangs. Look at its log, and restart it."
    they = "they have ended, or hang. Look at their logs, and restart them."
    return (
        f"{number(len(silent), 'worker')} {verb} given no sign for {longest}: "
        f"{it if len(silent) == 1 else they}"
    )


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
            ("worker", "state", "queue", "version", "since", "age"),
            [
                (
                    whole(worker.identity),
                    worker.state,
                    worker.queue,
                    whole(worker.version) if worker.version else None,
                    minute(worker.since),
                    None if worker.since is None else duration(now - worker.since),
                )
                for worker in workers
            ],
            empty="No worker polls a task queue.",
        ),
        _silence(workers, now),
    )


def _length(seconds: float) -> str | None:
    return duration(timedelta(seconds=seconds)) if seconds > 0 else None

"""The live view marks workers that were killed or hang, though the server still lists them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.client import Client

from temporal_tenancy.cli import top
from temporal_tenancy.cli._workers import pollers
from tests.fixtures.app import app_worker
from tests.fixtures.jobs import probed_jobs
from tests.fixtures.jobs.probed_jobs import QUEUE

ALWAYS = timedelta(days=1)
NEVER = timedelta(0)
LIMIT = timedelta(minutes=1)


@pytest.fixture
async def stopped(app: Client) -> Client:
    """A client of a server that remembers a worker which has stopped in order."""
    async with app_worker(
        app,
        task_queue=QUEUE,
        workflows=probed_jobs.WORKFLOWS,
        activities=probed_jobs.ACTIVITIES,
    ):
        while not await pollers(app, QUEUE, "workflow"):
            pass
        [running] = await top._workers(app, [QUEUE], ALWAYS)
        assert running.state is top._State.RUNS
        # It has not said that it stops, so its silence is no good sign.
        [silent] = await top._workers(app, [QUEUE], NEVER)
        assert silent.state is top._State.SILENT
    return app


async def test_a_worker_that_stops_in_order_says_so_and_is_no_silent_one(stopped: Client) -> None:
    [found] = await top._workers(stopped, [QUEUE], ALWAYS)
    assert found.state is top._State.STOPPING
    assert await top._workers(stopped, [QUEUE], NEVER) == []


def worker(
    *,
    polled: timedelta,
    beat: timedelta | None,
    status: WorkerStatus.ValueType,
    listed: bool = True,
) -> top._Worker | None:
    """A worker that polled and sent a heartbeat so long ago."""
    now = datetime.now(UTC)
    poller = PollerInfo(identity="w")
    poller.last_access_time.FromDatetime(now - polled)
    beats = {}
    if beat is not None:
        sent = WorkerHeartbeat(worker_identity="w", task_queue=QUEUE, status=status)
        sent.heartbeat_time.FromDatetime(now - beat)
        beats = {("w", QUEUE): sent}
    return top._worker(poller, QUEUE, beats if listed else None, LIMIT)


OLD, NEW = LIMIT * 2, LIMIT / 2
RUNNING = WorkerStatus.WORKER_STATUS_RUNNING
SHUTTING_DOWN = WorkerStatus.WORKER_STATUS_SHUTTING_DOWN


@pytest.mark.parametrize(
    ("polled", "beat", "status", "state"),
    [
        (NEW, NEW, RUNNING, "runs"),
        (OLD, NEW, RUNNING, "runs"),
        (NEW, OLD, RUNNING, "runs"),
        (NEW, None, RUNNING, "runs"),
        (OLD, OLD, RUNNING, "silent"),
        (OLD, None, RUNNING, "silent"),  # killed before its first heartbeat
        (NEW, NEW, SHUTTING_DOWN, "stopping"),
        (OLD, OLD, SHUTTING_DOWN, None),
    ],
)
def test_polls_and_heartbeats_are_signs_of_life(
    polled: timedelta,
    beat: timedelta | None,
    status: WorkerStatus.ValueType,
    state: str | None,
) -> None:
    found = worker(polled=polled, beat=beat, status=status)
    assert (None if found is None else found.state) == state


def test_a_server_that_lists_no_workers_accuses_none() -> None:
    assert worker(polled=OLD, beat=None, status=RUNNING, listed=False) is None


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, None),
        (
            1,
            "1 worker has given no sign for 3 min: it has ended, or hangs. Look at its log, and "
            "restart it.",
        ),
        (
            2,
            "2 workers have given no sign for 3 min: they have ended, or hang. Look at their logs, "
            "and restart them.",
        ),
    ],
)
def test_what_to_make_of_a_silent_worker_stands_below(count: int, sentence: str | None) -> None:
    now = datetime.now(UTC)
    silent = top._Worker("w", QUEUE, "v", now - timedelta(minutes=3), None, state=top._State.SILENT)
    runs = top._Worker("x", QUEUE, "v", now - timedelta(hours=1), None)
    assert top._silence([runs, *[silent] * count], now) == sentence

"""A long activity sends heartbeats while it works, and learns of its cancellation from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from temporal_tenancy import heartbeating
from tests.fixtures.jobs import slow_jobs
from tests.fixtures.jobs.slow_jobs import BeatInput, BeatJob
from tests.fixtures.temporal import make_worker


@pytest.fixture
async def worker(client: Client, queue: str) -> AsyncIterator[Worker]:
    async with make_worker(
        client, queue, workflows=slow_jobs.WORKFLOWS, activities=slow_jobs.ACTIVITIES
    ) as running:
        yield running


async def beat(
    client: Client, worker: Worker, how: str, *, heartbeat_seconds: float | None = 1.0
) -> Any:
    return await client.execute_workflow(
        BeatJob.run,
        BeatInput(tenant_id="acme", how=how, heartbeat_seconds=heartbeat_seconds),
        id=f"acme/test.beat/{worker.task_queue}",
        task_queue=worker.task_queue,
    )


async def test_an_activity_outlives_its_heartbeat_timeout_and_leaves_no_task(
    client: Client, worker: Worker
) -> None:
    assert await beat(client, worker, "beat_for_longer_than_the_timeout") == "no tasks left"


async def test_it_is_also_a_decorator(client: Client, worker: Worker) -> None:
    assert await beat(client, worker, "beat_by_decorator") == "beaten"


async def test_a_cancellation_reaches_the_activity(client: Client, worker: Worker) -> None:
    assert await beat(client, worker, "beat_until_cancelled") == "ActivityError"


async def test_progress_survives_an_attempt_that_made_none(client: Client, worker: Worker) -> None:
    assert await beat(client, worker, "beat_on_after_a_failure") == ["row", 41]


async def test_without_a_heartbeat_timeout_it_is_refused(client: Client, worker: Worker) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await beat(client, worker, "beat_by_decorator", heartbeat_seconds=None)
    error = failed.value.cause
    assert isinstance(error, ActivityError)
    assert isinstance(error.cause, ApplicationError)
    assert error.cause.type == "ConfigurationError"
    assert error.cause.message == (
        "beat_by_decorator sends heartbeats, but test.beat calls it without a heartbeat timeout. "
        "Add heartbeat_timeout=timedelta(...) to the call."
    )


@pytest.mark.parametrize(
    ("age", "beaten"),
    [(0, 0), (5, 0), (7, 1), (21, 1), (-30, 0), (10**9, 0)],
    ids=["now", "early", "a third", "timed out", "another clock", "unknown"],
)
async def test_an_attempt_that_a_busy_worker_begins_late_beats_at_once(
    age: int, beaten: int
) -> None:
    sent: list[tuple[Any, ...]] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: sent.append(details)
    environment.info = replace(
        environment.info,
        heartbeat_timeout=timedelta(seconds=20),
        started_time=datetime.now(UTC) - timedelta(seconds=age),
    )

    async def work() -> None:
        async with heartbeating("half"):
            for _ in range(3):  # turns of the loop, in which what is due happens
                await asyncio.sleep(0)

    await environment.run(work)
    assert sent == [("half",)] * beaten

"""Every log line of a job names its tenant, and none contains secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker

from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import PlatformInput
from temporal_tenancy.testing import InMemoryDirectory
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import slow_jobs
from tests.fixtures.jobs.slow_jobs import CANARY, PlatformTalk, TalkInput, TalkJob
from tests.fixtures.log_lines import WORKER, LogLines
from tests.fixtures.temporal import make_worker


@pytest.fixture
async def worker(client: Client, queue: str) -> AsyncIterator[Worker]:
    """A worker that forgets every workflow after each task, so that each is replayed."""
    async with make_worker(
        client,
        queue,
        workflows=[*slow_jobs.WORKFLOWS, *jobs.WORKFLOWS],
        activities=[*slow_jobs.ACTIVITIES, *jobs.ACTIVITIES],
        max_cached_workflows=0,
    ) as running:
        yield running


async def run_talk(client: Client, worker: Worker, *, fail: bool = False) -> dict[str, str | int]:
    """Runs `test.talk` and returns the fields that each of its lines must have."""
    handle = await client.start_workflow(
        TalkJob.run,
        TalkInput(tenant_id="acme", fail=fail),
        id=f"acme/test.talk/{worker.task_queue}",
        task_queue=worker.task_queue,
    )
    if fail:
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    else:
        await handle.result()
    return {
        "tenant_id": "acme",
        "job": "test.talk",
        "job_id": handle.id,
        "run_id": handle.first_execution_run_id or "",
        "attempt": 1,
        "worker": WORKER,
    }


async def test_every_line_of_a_job_has_its_tenant_and_its_run(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    expected = await run_talk(client, worker)
    lines = [line for line in log_lines.all() if not line["logger"].startswith("temporalio.worker")]
    assert lines
    for line in lines:
        assert {name: line.get(name) for name in expected} == expected, line


async def test_an_activitys_lines_are_alike_whatever_logger_wrote_them(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    await run_talk(client, worker)
    lines = log_lines.all("activity.spoke", activity="talk")
    assert [line["how"] for line in lines] == ["structlog", "standard library", "activity.logger"]
    own = {"request", "api_key"}
    assert [set(line) - own for line in lines] == [set(lines[0]) - own] * 3
    assert log_lines.one("activity.spoke", activity="talk_in_a_thread")["tenant_id"] == "acme"


async def test_a_workflows_lines_are_not_repeated_on_replay(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    await run_talk(client, worker)
    ways = [line["how"] for line in log_lines.all("workflow.spoke")]
    assert ways == ["structlog", "standard library", "workflow.logger"]
    for event in ("workflow.started", "workflow.succeeded"):
        log_lines.one(event)


async def test_what_ends_is_told_once_with_how_long_it_took(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    await run_talk(client, worker)
    assert log_lines.one("activity.started", activity="talk")["level"] == "debug"
    succeeded = log_lines.one("activity.succeeded", activity="talk")
    assert succeeded["level"] == "info"
    assert 0 <= succeeded["duration_seconds"] < 10
    assert log_lines.one("workflow.succeeded")["duration_seconds"] >= 0


async def test_a_failure_is_told_once_with_its_type(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    await run_talk(client, worker, fail=True)
    failed = log_lines.one("activity.failed", activity="talk")
    assert failed["error_type"] == "WentWrong"
    assert "ApplicationError: WentWrong: it went wrong" in failed["exception"]
    assert log_lines.one("workflow.failed")["error_type"] == "WentWrong"
    assert "Completing activity as failed" not in log_lines.text


async def test_a_refused_activity_is_told_with_its_tenant(
    client: Client, worker: Worker, directory: InMemoryDirectory, log_lines: LogLines
) -> None:
    directory.set_status("acme", TenantStatus.SUSPENDED)
    await run_talk(client, worker, fail=True)
    refused = log_lines.one("activity.refused")
    assert (refused["error_type"], refused["tenant_id"]) == ("TenantSuspended", "acme")
    assert refused["error"].endswith('jobs. "starter.py tenants resume acme" does so.')
    assert not log_lines.all("activity.started", activity="talk")


async def test_a_refused_start_is_told_with_the_tenant_of_its_id(
    raw_client: Client, worker: Worker, log_lines: LogLines
) -> None:
    with pytest.raises(WorkflowFailureError):
        await raw_client.execute_workflow(
            "test.talk",
            {"tenant_id": "globex"},
            id=f"acme/test.talk/{worker.task_queue}",
            task_queue=worker.task_queue,
        )
    refused = log_lines.one("workflow.refused")
    assert refused["started_by"] == raw_client.identity
    assert (refused["error_type"], refused["tenant_id"]) == ("TenantMismatch", "acme")


async def test_the_platforms_lines_say_so_and_why(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    await client.execute_workflow(
        PlatformTalk.run,
        PlatformInput(),
        id=f"platform/test.platform_talk/{worker.task_queue}",
        task_queue=worker.task_queue,
    )
    of_workflow = log_lines.one("workflow.spoke")
    assert of_workflow["scope"] == "platform"
    assert of_workflow["reason"] == "talks for the platform in a test"
    of_activity = log_lines.one("activity.spoke")
    assert (of_activity["scope"], of_activity["reason"]) == ("platform", "talks in a test")
    assert "tenant_id" not in of_workflow | of_activity


async def test_no_line_has_a_payload_or_a_password_even_at_debug(
    client: Client, worker: Worker, log_lines: LogLines
) -> None:
    await run_talk(client, worker, fail=True)
    assert log_lines.all("activity.spoke")[0]["request"] == "<Talk>"
    assert log_lines.one("activity.connected")["url"] == "postgresql://role:***@host/db"
    assert CANARY not in log_lines.text

"""worker.py as a process: it reports its state, works, and stops in order."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from dev.devstack.postgres import DatabaseUrls
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.jobs.slow_jobs import SlowInput, SlowJob
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from workflows.billing import BillingCycle, BillingCycleInput

SLOW = "tests.system.worker.slow_worker"
JOB_FIELDS = {"tenant_id", "job", "job_id", "run_id", "attempt", "worker"}
COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED

SlowRun = WorkflowHandle[SlowJob, str]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The file that ends the slow activity."""
    return tmp_path / "release"


@pytest.fixture
async def slow_run(saas: Client, tenants: Tenants, release: Path) -> SlowRun:
    """A job whose activity lasts until `release` exists."""
    await tenants.add("acme", "Acme", plan="enterprise")
    return await saas.start_workflow(
        SlowJob.run,
        SlowInput(tenant_id="acme", release=str(release)),
        id="acme/test.slow/1",
        task_queue=Queue.DEFAULT,
    )


async def completed_activities(run: SlowRun) -> int:
    history = await run.fetch_history()
    return sum(event.event_type == COMPLETED for event in history.events)


async def get(worker: WorkerProcess, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(f"{worker.health}{path}")


async def test_it_works_and_sigterm_lets_a_running_activity_finish(
    saas: Client, slow_run: SlowRun, release: Path, start_cold_worker: StartWorker
) -> None:
    worker = await start_cold_worker("--identity", "w1", module=SLOW).until_ready()
    assert (await get(worker, "/healthz")).json() == {"status": "ok"}
    ready = await get(worker, "/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    await saas.execute_workflow(
        BillingCycle.run,
        BillingCycleInput(tenant_id="acme", period="2013-04"),
        id="acme/billing.cycle/2013-04",
        task_queue=Queue.BULK,
    )
    await worker.until_line("slow.running")

    worker.send(signal.SIGTERM)
    await worker.until_line("worker.stopping")
    stopping = await get(worker, "/readyz")
    assert stopping.status_code == 503
    assert stopping.json()["reasons"] == ["the worker is stopping"]
    assert (await get(worker, "/healthz")).status_code == 200
    assert await completed_activities(slow_run) == 0
    release.touch()  # noqa: ASYNC240
    assert await worker.exit_code() == 0
    assert await completed_activities(slow_run) == 1

    events = [line["event"] for line in worker.lines() if line["event"].startswith("worker.")]
    assert events == [
        "worker.starting",
        "worker.started",
        "worker.ready",
        "worker.stopping",
        "worker.stopped",
    ]
    assert worker.lines("worker.started")[0]["queues"] == ["critical", "default", "bulk"]
    of_jobs = [line for line in worker.lines() if "job" in line]
    assert {line["job"] for line in of_jobs} == {"billing.cycle", "test.slow"}
    for line in of_jobs:
        assert line.keys() >= JOB_FIELDS, line
        assert (line["tenant_id"], line["worker"]) == ("acme", "w1")
    assert all(line.startswith("{") for line in worker.text.splitlines())


async def test_a_second_signal_ends_it_at_once(
    slow_run: SlowRun, start_worker: StartWorker
) -> None:
    worker = await start_worker("--queue", "default", module=SLOW).until_ready()
    await worker.until_line("slow.running")
    worker.send(signal.SIGTERM)
    await worker.until_line("worker.stopping")
    worker.send(signal.SIGINT)
    assert await worker.exit_code() == 128 + signal.SIGINT
    assert not worker.lines("worker.stopped")


async def test_an_activity_that_outlasts_the_grace_is_cancelled(
    slow_run: SlowRun, start_worker: StartWorker
) -> None:
    worker = start_worker("--queue", "critical,default", module=SLOW, WORKER_GRACE_SECONDS="0.2")
    await worker.until_ready()
    await worker.until_line("slow.running")
    worker.send(signal.SIGINT)
    assert await worker.exit_code() == 0
    [cancelled] = worker.lines("activity.cancelled")
    assert cancelled["cancelled_by"] == "worker_shutdown"
    assert worker.lines("worker.started")[0]["queues"] == ["critical", "default"]


async def test_it_works_with_slots_by_what_the_machine_bears(
    saas: Client, tenants: Tenants, start_worker: StartWorker
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    options = ("--slots", "resource", "--target-memory", "0.95", "--target-cpu", "1")
    await start_worker("--queue", "bulk", *options).until_ready()
    await saas.execute_workflow(
        BillingCycle.run,
        BillingCycleInput(tenant_id="acme", period="2013-04"),
        id="acme/billing.cycle/2013-04",
        task_queue=Queue.BULK,
    )


async def test_the_dev_stack_gives_it_no_owner_credentials(
    start_cold_worker: StartWorker, database_urls: DatabaseUrls
) -> None:
    worker = start_cold_worker("--queue", "critical")
    await worker.until_line("worker.starting")
    environ = worker.environ()
    assert environ["TENANT_DATABASE_URL"] == database_urls.tenant
    assert "DATABASE_URL" not in environ
    assert database_urls.owner not in "\n".join(environ.values())
    # A signal during start-up stops it in order too.
    worker.send(signal.SIGTERM)
    assert await worker.exit_code() == 0
    assert worker.lines("worker.stopped")

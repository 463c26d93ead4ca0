"""A job that waits out a suspension is paused with its tenant, and continues afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Replayer, Worker

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import CachedDirectory, Tenant, TenantDirectory, TenantStatus
from temporal_tenancy.core.failures import root_cause
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.suspension import IDENTITY, release
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from temporal_tenancy.ticks.reconcile import ReleaseActivities
from tests.fixtures.jobs import suspension_control, suspension_jobs
from tests.fixtures.jobs.suspension_control import Control
from tests.fixtures.jobs.suspension_jobs import QUEUE, PatientInput

PAUSED = PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED
STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
PAUSE_REQUESTED = PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED

Handle = WorkflowHandle[Any, Any]


def plugin_of(directory: TenantDirectory, database: Database | None = None) -> TenancyPlugin:
    return TenancyPlugin(
        directory=CachedDirectory(directory, seconds=0),
        database=database,
        passthrough=["tests.fixtures.jobs.suspension_control"],
    )


@pytest.fixture
async def client(
    temporal: TemporalDevServer, namespace: str, database: Database, tenants: Tenants
) -> Client:
    """A client in the test's own namespace, where `acme` and `globex` are tenants."""
    for name in ("acme", "globex"):
        await tenants.add(name, name, plan="enterprise")
    plugin = plugin_of(ControlPlaneDirectory(database), database)
    return await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    control = suspension_control.new_control()
    yield control
    control.release()


def make_worker(client: Client, **options: Any) -> AbstractAsyncContextManager[Worker]:
    defaults: dict[str, Any] = {
        "workflows": suspension_jobs.WORKFLOWS,
        "activities": suspension_control.ACTIVITIES,
    }
    return Worker(client, task_queue=QUEUE, **{**defaults, **options})


@pytest.fixture
def threads() -> Iterator[Any]:
    with ThreadPoolExecutor(5) as executor:
        yield executor


@pytest.fixture
async def worker(client: Client, control: Control, threads: Any) -> AsyncIterator[Worker]:
    async with make_worker(client, activity_executor=threads) as running:
        yield running
        control.release()  # a blocked thread would delay the worker's end


async def start(
    client: Client,
    job: str = "test.patient",
    tenant: str = "acme",
    *,
    heartbeat_seconds: float = 1.0,
) -> Handle:
    return await client.start_workflow(
        job,
        PatientInput(tenant_id=tenant, heartbeat_seconds=heartbeat_seconds),
        id=f"{tenant}/{job}/1",
        task_queue=QUEUE,
    )


async def until(handle: Handle, state: PendingActivityState.ValueType) -> PendingActivityInfo:
    """Returns the run's activity once it is in this state: the server has no event for it."""
    while True:
        description = await handle.describe()
        assert description.status is WorkflowExecutionStatus.RUNNING
        for pending in description.raw_description.pending_activities:
            if pending.state == state:
                return pending


async def until_listed(client: Client, count: int = 1) -> None:
    """Waits until the server's list, which lags a moment, has so many paused runs."""
    query = "TemporalPauseInfo IS NOT NULL AND ExecutionStatus = 'Running'"
    while (await client.count_workflows(query)).count != count:
        """It is soon."""


async def suspend(tenants: Tenants) -> None:
    await tenants.set_status("acme", TenantStatus.SUSPENDED)


async def resume(tenants: Tenants, client: Client) -> int:
    """Resumes acme and releases its activities; returns how many continued."""
    await until_listed(client)
    await tenants.resume("acme")
    return await release(client, "acme")


async def run_platform_job(client: Client) -> int:
    released: int = await client.execute_workflow(
        ReleaseActivities.run, id="platform/suspensions.release/1", task_queue=QUEUE
    )
    return released


async def by_hand(client: Client, handle: Handle, *, pause: bool) -> None:
    """What an operator does in the Web UI."""
    common: dict[str, Any] = {
        "namespace": client.namespace,
        "execution": WorkflowExecution(workflow_id=handle.id),
        "id": "1",
        "identity": "operator",
    }
    if pause:
        request = PauseActivityRequest(**common, reason="I am looking at it")
        await client.workflow_service.pause_activity(request)
    else:
        await client.workflow_service.unpause_activity(UnpauseActivityRequest(**common))


async def failure(handle: Handle) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert failed.value.cause is not None
    cause = root_cause(failed.value.cause)
    assert isinstance(cause, ApplicationError)
    return cause


@pytest.mark.usefixtures("worker")
async def test_a_run_that_is_started_in_a_suspension_waits_for_its_end(
    client: Client, tenants: Tenants, control: Control
) -> None:
    await suspend(tenants)
    control.release()
    handle = await start(client)
    waiting = await until(handle, PAUSED)
    assert (waiting.pause_info.manual.identity, control.begun) == (IDENTITY, [])
    assert waiting.pause_info.manual.reason.startswith("acme is suspended since 2")
    assert waiting.last_failure.application_failure_info.type == "TenantSuspended"
    assert await resume(tenants, client) == 1
    assert await handle.result() == 0
    assert control.begun == ["acme, attempt 1, from 0"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("job", "heartbeat_seconds"), [("test.patient", 60.0), ("test.patient_thread", 1.0)]
)
async def test_an_activity_that_runs_is_interrupted_and_goes_on_at_its_last_heartbeat(
    client: Client, tenants: Tenants, control: Control, job: str, heartbeat_seconds: float
) -> None:
    handle = await start(client, job, heartbeat_seconds=heartbeat_seconds)
    await control.until_begun(1)
    await suspend(tenants)
    await until(handle, PAUSED)
    assert await resume(tenants, client) == 1
    await control.until_begun(2)
    control.release()
    assert await handle.result() == 1
    assert control.begun == ["acme, attempt 1, from 0", "acme, attempt 1, from 1"]


async def test_what_waits_holds_no_slot(client: Client, tenants: Tenants, control: Control) -> None:
    async with make_worker(
        client,
        max_concurrent_activities=1,
        workflows=[suspension_jobs.Patient],
        activities=[suspension_control.step_on],
    ):
        waiting = await start(client)
        await control.until_begun(1)
        await suspend(tenants)
        await until(waiting, PAUSED)
        control.release()
        assert await (await start(client, tenant="globex")).result() == 0
        assert control.begun == ["acme, attempt 1, from 0", "globex, attempt 1, from 0"]


@pytest.mark.usefixtures("worker")
async def test_a_thread_that_sends_no_heartbeat_works_to_its_end(
    client: Client, tenants: Tenants, control: Control
) -> None:
    handle = await start(client, "test.patient_silence")
    await control.until_begun(1)
    await suspend(tenants)
    await until(handle, PAUSE_REQUESTED)
    assert await resume(tenants, client) == 0  # a failure now would count as an attempt
    control.release()
    assert await handle.result() == 0


@pytest.mark.usefixtures("worker")
async def test_a_local_activity_is_refused(client: Client, tenants: Tenants) -> None:
    await suspend(tenants)
    assert (await failure(await start(client, "test.patient_local"))).type == "TenantSuspended"


@pytest.mark.usefixtures("worker")
async def test_another_job_is_refused_and_does_not_wait(client: Client, tenants: Tenants) -> None:
    await suspend(tenants)
    refused = await failure(await start(client, "test.impatient"))
    assert (refused.type, refused.non_retryable) == ("TenantSuspended", True)


@pytest.mark.usefixtures("worker")
async def test_a_resumption_in_sql_is_found_by_the_platforms_job(
    client: Client, database: Database, tenants: Tenants, control: Control
) -> None:
    control.release()
    await suspend(tenants)
    handle = await start(client)
    await until(handle, PAUSED)
    await until_listed(client)
    assert await run_platform_job(client) == 0
    async with database.platform_session("test") as session:
        await session.execute(
            text("update tenancy.tenants set status = 'active' where id = 'acme'")
        )
    assert await run_platform_job(client) == 1
    assert await handle.result() == 0


@pytest.mark.usefixtures("worker")
async def test_what_a_person_paused_is_left_to_that_person(
    client: Client, tenants: Tenants, control: Control
) -> None:
    handle = await start(client)
    await control.until_begun(1)
    await by_hand(client, handle, pause=True)
    await suspend(tenants)
    await until(handle, PAUSED)
    assert await resume(tenants, client) == 0
    assert await run_platform_job(client) == 0
    await by_hand(client, handle, pause=False)
    await control.until_begun(2)
    control.release()
    assert await handle.result() == 1


@pytest.mark.usefixtures("worker")
async def test_what_is_let_go_on_by_hand_too_early_waits_again_and_keeps_its_heartbeat(
    client: Client, tenants: Tenants, control: Control
) -> None:
    handle = await start(client)
    await control.until_begun(1)
    await suspend(tenants)
    first = await until(handle, PAUSED)
    await by_hand(client, handle, pause=False)
    while (again := await until(handle, PAUSED)).attempt == first.attempt:
        """It has not been paused again."""
    assert again.attempt == first.attempt + 1
    assert len(control.begun) == 1
    control.release()
    assert await resume(tenants, client) == 1
    assert await handle.result() == 1
    assert control.begun[1:] == ["acme, attempt 1, from 1"]


@pytest.mark.usefixtures("worker")
async def test_what_waits_for_a_tenant_that_leaves_is_refused(
    client: Client, tenants: Tenants
) -> None:
    await suspend(tenants)
    handle = await start(client)
    await until(handle, PAUSED)
    await until_listed(client)
    await tenants.set_status("acme", TenantStatus.OFFBOARDING)
    assert await run_platform_job(client) == 1
    assert (await failure(handle)).type == "TenantOffboarding"


@pytest.mark.usefixtures("worker")
async def test_what_waits_for_a_tenant_that_lost_the_feature_is_refused(
    client: Client, tenants: Tenants, database: Database
) -> None:
    await suspend(tenants)
    handle = await start(client, "test.patient_feature")
    await until(handle, PAUSED)
    async with database.platform_session("test") as session:
        await session.execute(text("update tenancy.tenants set plan_id = 'free' where id = 'acme'"))
    assert await resume(tenants, client) == 1
    assert (await failure(handle)).type == "FeatureNotEnabled"


@pytest.mark.usefixtures("worker")
async def test_a_run_that_waits_can_be_cancelled(client: Client, tenants: Tenants) -> None:
    await suspend(tenants)
    handle = await start(client)
    await until(handle, PAUSED)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as cancelled:
        await handle.result()
    assert isinstance(cancelled.value.cause, CancelledError)


@pytest.mark.usefixtures("worker")
async def test_nothing_of_it_is_in_the_history(
    client: Client, tenants: Tenants, control: Control, database: Database
) -> None:
    handle = await start(client)
    await control.until_begun(1)
    await suspend(tenants)
    await until(handle, PAUSED)
    control.release()
    assert await resume(tenants, client) == 1
    await handle.result()
    history = await handle.fetch_history()
    await Replayer(
        workflows=suspension_jobs.WORKFLOWS,
        plugins=[plugin_of(ControlPlaneDirectory(database), database)],
    ).replay_workflow(history)
    names = [EventType.Name(event.event_type) for event in history.events]
    assert names.count("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED") == 1
    assert not [name for name in names if "PAUSE" in name or "TIMER" in name or "FAILED" in name]


class Wavering(InMemoryDirectory):
    """Reports acme as suspended for one answer, as if it were resumed right after."""

    wavers = False

    def __init__(self) -> None:
        super().__init__([make_tenant("acme")])
        self.asked_again = asyncio.Event()

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        if not self.wavers:
            self.asked_again.set()
            return await super().find_many(tenant_ids)
        self.wavers = False
        return [make_tenant("acme", TenantStatus.SUSPENDED)]


@pytest.mark.parametrize("when", ["before it begins", "while it runs"])
async def test_a_tenant_that_is_resumed_while_its_activity_is_paused_does_not_wait(
    temporal: TemporalDevServer, namespace: str, control: Control, when: str, threads: Any
) -> None:
    directory = Wavering()
    client = await Client.connect(
        temporal.address, namespace=namespace, plugins=[plugin_of(directory)]
    )
    handle = await start(client, heartbeat_seconds=60)
    directory.wavers = when == "before it begins"
    async with make_worker(client, activity_executor=threads):
        await control.until_begun(1)
        if when == "while it runs":
            directory.asked_again = asyncio.Event()
            directory.wavers = True
            await directory.asked_again.wait()
            await until(handle, STARTED)
        control.release()
        assert await handle.result() == 0
    assert control.begun == ["acme, attempt 1, from 0"]


class Failing(InMemoryDirectory):
    """Is unavailable for one answer."""

    def __init__(self) -> None:
        super().__init__([make_tenant("acme")])
        self.away = False
        self.failed = asyncio.Event()
        self.answered = asyncio.Event()

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        if self.away:
            self.away = False
            self.failed.set()
            raise ConnectionError("away")
        if self.failed.is_set():
            self.answered.set()
        return await super().find_many(tenant_ids)


async def test_a_directory_that_is_away_interrupts_nothing_and_is_asked_again(
    temporal: TemporalDevServer, namespace: str, control: Control, threads: Any
) -> None:
    directory = Failing()
    client = await Client.connect(
        temporal.address, namespace=namespace, plugins=[plugin_of(directory)]
    )
    async with make_worker(client, activity_executor=threads):
        handle = await start(client)
        await control.until_begun(1)
        directory.away = True
        await directory.failed.wait()
        await directory.answered.wait()
        control.release()
        assert await handle.result() == 0

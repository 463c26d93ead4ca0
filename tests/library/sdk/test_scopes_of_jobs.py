"""An activity's scope closes when it ends; a workflow's lives as long as its run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowQueryFailedError,
)
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.worker import Replayer, Worker

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.core import scope, scoped_value
from temporal_tenancy.core.directory import CachedDirectory
from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.inputs import PlatformInput
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.testing import InMemoryDirectory
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import scope_control, scope_jobs
from tests.fixtures.jobs.scope_control import Named
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import within
from tests.fixtures.temporal import make_worker
from tests.library.postgres.test_carried_sessions import days_of, usage

COUNTER = "tenancy_scopes_used_after_close"


@pytest.fixture
def plugin(directory: InMemoryDirectory, database: Database) -> TenancyPlugin:
    return TenancyPlugin(
        directory=CachedDirectory(directory, seconds=0),
        database=database,
        passthrough=["tests.fixtures.jobs.marks", "tests.fixtures.jobs.scope_control"],
        exempt=jobs.EXEMPT,
    )


@pytest.fixture(scope="module")
def metrics() -> tuple[Runtime, MetricBuffer]:
    buffer = MetricBuffer(100_000)
    return Runtime(telemetry=TelemetryConfig(metrics=buffer)), buffer


@pytest.fixture
async def client(
    temporal: TemporalDevServer,
    namespace: str,
    plugin: TenancyPlugin,
    metrics: tuple[Runtime, MetricBuffer],
) -> Client:
    return await Client.connect(
        temporal.address, namespace=namespace, plugins=[plugin], runtime=metrics[0]
    )


@pytest.fixture
async def worker(client: Client, queue: str) -> AsyncIterator[Worker]:
    """A worker that forgets every workflow after each task, and was started inside a scope."""
    with enter(TenantScope("globex")):
        starting = make_worker(
            client,
            queue,
            workflows=[*scope_jobs.WORKFLOWS, *jobs.WORKFLOWS],
            activities=[*scope_control.ACTIVITIES, *jobs.ACTIVITIES],
            max_cached_workflows=0,
        )
        running = await starting.__aenter__()
    yield running
    await starting.__aexit__(None, None, None)


async def carry(client: Client, worker: Worker, activity: str) -> Any:
    return await client.execute_workflow(
        scope_jobs.Carry.run,
        scope_jobs.CarryInput(tenant_id="acme", activity=activity),
        id=f"acme/scope.carry/{activity}",
        task_queue=worker.task_queue,
    )


async def write() -> None:
    async with tenant_session() as session:
        session.add(usage())


async def test_a_task_carried_out_of_an_activity_writes_no_other_tenants_row(
    client: Client,
    worker: Worker,
    database: Database,
    log_lines: LogLines,
    metrics: tuple[Runtime, MetricBuffer],
) -> None:
    control = scope_control.new_control(write)
    assert await carry(client, worker, "leave_a_task") == "acme"
    with within(database, "globex"), pytest.raises(ScopeMissing, match="the activity"):
        await control.go_on()
    for tenant in ("acme", "globex"):
        assert await days_of(database, tenant) == []
    line = log_lines.one("scope.used_after_close")
    assert (line["tenant_id"], line["job"]) == ("acme", "scope.carry")
    updates = metrics[1].retrieve_updates()
    counted = [update for update in updates if update.metric.name == COUNTER]
    assert [update.value for update in counted] == [1]
    assert not {"tenant_id", "tenant"} & set(counted[0].attributes)


@pytest.mark.parametrize("tenant", ["acme", "globex"])
async def test_a_task_carried_out_of_an_activity_starts_nothing(
    client: Client, worker: Worker, tenant: str
) -> None:
    async def start() -> None:
        await client.start_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id=tenant),
            id=f"{tenant}/echo.tell/carried",
            task_queue=worker.task_queue,
        )

    control = scope_control.new_control(start)
    await carry(client, worker, "leave_a_task")
    with pytest.raises(ScopeMissing, match="closed"):
        await control.go_on()


async def test_a_thread_carried_out_of_an_activity_is_refused(
    client: Client, worker: Worker
) -> None:
    control = scope_control.new_control(write)
    assert await carry(client, worker, "leave_a_thread") == "acme"
    with pytest.raises(ScopeMissing, match="closed"):
        await control.go_on()


async def test_a_tenants_scope_that_the_platform_entered_is_closed_with_its_block(
    client: Client, worker: Worker, database: Database
) -> None:
    control = scope_control.new_control(write)
    seen = await client.execute_workflow(
        scope_jobs.CarryInner.run,
        PlatformInput(),
        id="platform/scope.carry_inner/1",
        task_queue=worker.task_queue,
    )
    assert seen == "acme"
    with pytest.raises(ScopeMissing, match="closed"):
        await control.go_on()
    assert await days_of(database, "acme") == []


async def test_what_an_activity_waits_for_has_its_scope(client: Client, worker: Worker) -> None:
    assert await carry(client, worker, "work_side_by_side") == ["acme"] * 3


async def test_a_workflows_task_keeps_its_scope_behind_the_block_it_was_begun_in(
    client: Client, worker: Worker
) -> None:
    handle = await client.start_workflow(
        scope_jobs.Tasks.run,
        Named(tenant_id="acme"),
        id="acme/scope.tasks/1",
        task_queue=worker.task_queue,
    )
    await handle.signal(scope_jobs.Tasks.end)
    assert await handle.result() == ["acme", "acme"]


INTO = {
    "globex": ("TenantMismatch", "a job of globex"),
    "platform": ("ScopeMissing", "in a platform activity"),
    "generator": ("ScopeMissing", "the generator _entered"),
}


async def lead(client: Client, worker: Worker, into: str) -> tuple[Any, WorkflowHistory]:
    handle = await client.start_workflow(
        scope_jobs.Lead.run,
        scope_jobs.LeadInput(tenant_id="acme", into=into),
        id=f"acme/scope.lead/{into}",
        task_queue=worker.task_queue,
    )
    result: Any
    try:
        result = await handle.result()
    except WorkflowFailureError as error:
        result = error.cause
    return result, await handle.fetch_history()


async def replay(plugin: TenancyPlugin, history: WorkflowHistory) -> None:
    await Replayer(workflows=scope_jobs.WORKFLOWS, plugins=[plugin]).replay_workflow(history)


@pytest.mark.parametrize("into", INTO)
async def test_a_tenants_workflow_does_not_lead_its_code_into_anothers_scope(
    client: Client, worker: Worker, plugin: TenancyPlugin, into: str
) -> None:
    error, history = await lead(client, worker, into)
    kind, said = INTO[into]
    assert (error.type, said in error.message) == (kind, True)
    await replay(plugin, history)


@pytest.mark.parametrize("into", INTO)
async def test_a_run_that_did_so_in_an_earlier_release_goes_on_as_it_began(
    client: Client,
    worker: Worker,
    plugin: TenancyPlugin,
    monkeypatch: pytest.MonkeyPatch,
    into: str,
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(scope, "is_enforced", lambda: False)
        earlier.setattr(scoped_value, "is_enforced", lambda: False)
        result, history = await lead(client, worker, into)
    assert result in (["globex"], ["the platform (to look around)"], ["acme"])
    await replay(plugin, history)


async def test_a_query_does_not_lead_into_anothers_scope(client: Client, worker: Worker) -> None:
    await lead(client, worker, "acme")
    handle = client.get_workflow_handle("acme/scope.lead/acme")
    assert await handle.query("peek_as", "acme") == "acme"
    with pytest.raises(WorkflowQueryFailedError, match="works for tenant acme"):
        await handle.query("peek_as", "globex")


async def test_a_directory_asked_in_a_closed_scope_answers_whoever_asks_with_it(
    directory: InMemoryDirectory,
) -> None:
    cached = CachedDirectory(directory, seconds=0)
    with enter(TenantScope("acme")):
        asking = asyncio.create_task(cached.find("acme"))
        await asyncio.sleep(0)
    with enter(TenantScope("globex")):
        found = await cached.find("globex")
    assert found is not None
    assert (await asking) is not None

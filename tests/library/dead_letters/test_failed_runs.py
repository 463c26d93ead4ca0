"""A run that fails permanently leaves a dead letter; any other run leaves none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Replayer, Worker

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.app import app_plugin
from tests.fixtures.jobs.failing_jobs import Failing
from tests.fixtures.jobs.fan_out_control import Control
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import within

JOB = "test.controlled"


async def letters(database: Database) -> Sequence[Any]:
    query = text("select * from tenancy.dead_letters order by tenant_id, workflow_id")
    async with database.platform_session("test") as session:
        return (await session.execute(query)).all()


async def failing(handle: WorkflowHandle[Any, Any]) -> BaseException:
    """Returns why a run has failed, from Temporal."""
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    return failed.value.cause


@asynccontextmanager
async def failing_worker(client: Client, **options: Any) -> AsyncIterator[Worker]:
    async with Worker(client, task_queue="bulk", workflows=[Failing], **options) as running:
        yield running


async def start(client: Client, how: str, **options: Any) -> WorkflowHandle[Any, Any]:
    given = {"tenant_id": "acme", "how": how}
    id = f"acme/test.failing/{how}-{uuid4().hex[:8]}"
    return await client.start_workflow("test.failing", given, id=id, task_queue="bulk", **options)


@pytest.fixture
async def acme(tenants: Tenants) -> str:
    await tenants.add("acme", "Acme", plan="enterprise")
    return "acme"


@pytest.mark.usefixtures("acme", "controlled_worker")
async def test_a_failed_activity_leaves_a_letter_with_the_jobs_input(
    app: Client, database: Database, control: Control
) -> None:
    control.failing = {"acme"}
    handle = await app.start_workflow(
        JOB, {"tenant_id": "acme", "note": "x"}, id=f"acme/{JOB}/1", task_queue="bulk"
    )
    await failing(handle)
    [letter] = await letters(database)
    assert (letter.tenant_id, letter.job, letter.workflow_id) == ("acme", JOB, f"acme/{JOB}/1")
    assert (letter.source, letter.run_id, letter.attempts, letter.status) == (
        "workflow", handle.result_run_id, 1, "open")  # fmt: skip
    assert (letter.error_type, letter.message) == ("Broken", "acme is broken")
    with within(database, "acme"):
        async with tenant_session() as session:
            [kept] = (await session.execute(text("select * from tenancy.outbox_messages"))).all()
    assert (kept.id, kept.payload, kept.status) == (letter.message_id, {"note": "x"}, "dead_letter")


@pytest.mark.usefixtures("acme")
async def test_a_letter_costs_a_failed_run_one_event(app: Client) -> None:
    async with failing_worker(app):
        handle = await start(app, "fail")
        await failing(handle)
    kinds = [event.WhichOneof("attributes") for event in (await handle.fetch_history()).events]
    assert [kind.removesuffix("_event_attributes") for kind in kinds if kind] == [
        "workflow_execution_started",
        "workflow_task_scheduled",
        "workflow_task_started",
        "workflow_task_completed",
        "marker_recorded",
        "workflow_execution_failed",
    ]


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("how", "error_type"),
    [
        ("fail", "CannotBeDone"),
        ("timeout", "TimeoutError"),
        ("again", "CannotBeDone"),
    ],
)
async def test_whatever_fails_a_run_is_recorded(
    app: Client, database: Database, how: str, error_type: str
) -> None:
    async with failing_worker(app):
        await failing(await start(app, how))
    [letter] = await letters(database)
    assert letter.error_type == error_type


@pytest.mark.usefixtures("acme")
async def test_a_cancelled_run_has_not_failed_unless_it_says_so(
    app: Client, database: Database
) -> None:
    async with failing_worker(app):
        for how in ("wait", "clean up badly"):
            handle = await start(app, how)
            await handle.cancel()
            cause = await failing(handle)
            assert isinstance(cause, CancelledError) == (how == "wait")
    [letter] = await letters(database)
    assert letter.error_type == "NotCleaned"


@pytest.mark.usefixtures("acme")
async def test_a_bug_is_tried_again_and_is_no_letter(app: Client, database: Database) -> None:
    async with failing_worker(app):
        handle = await start(app, "bug")
        async for event in handle.fetch_history_events(wait_new_event=True):
            if event.HasField("workflow_task_failed_event_attributes"):
                break
        await handle.terminate()  # do not wait for the next attempt, ten seconds later
    assert await letters(database) == []


@pytest.mark.usefixtures("acme")
async def test_only_the_last_attempt_of_a_run_is_recorded(app: Client, database: Database) -> None:
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2)
    async with failing_worker(app):
        handle = await start(app, "fail", retry_policy=policy)
        await failing(handle)
        first = app.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
        events = (await first.fetch_history()).events
        assert not any(e.HasField("marker_recorded_event_attributes") for e in events)
        final = RetryPolicy(maximum_attempts=3, non_retryable_error_types=["CannotBeDone"])
        await failing(await start(app, "fail", retry_policy=final))
    assert sorted(letter.attempts for letter in await letters(database)) == [1, 2]


@pytest.mark.usefixtures("controlled_worker", "control")
async def test_a_suspended_tenants_job_that_is_refused_is_recorded_too(
    app: Client, database: Database, tenants: Tenants, acme: str
) -> None:
    await tenants.set_status(acme, TenantStatus.SUSPENDED)
    handle = await app.start_workflow(
        JOB, {"tenant_id": acme}, id=f"acme/{JOB}/1", task_queue="bulk"
    )
    await failing(handle)
    [letter] = await letters(database)
    assert letter.error_type == "TenantSuspended"


@pytest.mark.usefixtures("controlled_worker", "control")
async def test_nobodys_job_is_no_letter(
    database: Database, temporal: TemporalDevServer, namespace: str
) -> None:
    raw = await Client.connect(temporal.address, namespace=namespace)
    handle = await raw.start_workflow(
        JOB, {"tenant_id": "nobody"}, id=f"nobody/{JOB}/1", task_queue="bulk"
    )
    await failing(handle)
    assert await letters(database) == []


async def test_a_letter_that_cannot_be_written_changes_nothing_for_the_run(
    temporal: TemporalDevServer, namespace: str, log_lines: LogLines
) -> None:
    nowhere = Database(
        tenant_url="postgresql://tenancy_tenant:x@127.0.0.1:1/x",
        platform_url="postgresql://tenancy_platform:x@127.0.0.1:1/x",
    )
    plugin = TenancyPlugin(directory=InMemoryDirectory([make_tenant("acme")]), database=nowhere)
    client = await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])
    async with failing_worker(client):
        cause = await failing(await start(client, "fail"))
    assert isinstance(cause, ApplicationError)
    assert cause.type == "CannotBeDone"
    assert log_lines.one("dead_letter.not_recorded")["tenant_id"] == "acme"


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "replayed at each task"])
@pytest.mark.parametrize("served", [True, False], ids=["served", "not served"])
@pytest.mark.usefixtures("acme")
async def test_where_no_feature_records_failures_there_is_no_letter_and_every_plugin_replays_it(
    temporal: TemporalDevServer, namespace: str, database: Database, served: bool, cached: bool
) -> None:
    isolation_alone = TenancyPlugin(
        directory=ControlPlaneDirectory(database), database=database, features=[]
    )
    plugin = app_plugin(database) if served else isolation_alone
    client = await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])
    options = {} if cached else {"max_cached_workflows": 0, "max_concurrent_workflow_task_polls": 1}
    async with failing_worker(client, **options):
        handle = await start(client, "fail")
        assert isinstance(await failing(handle), ApplicationError)
    assert len(await letters(database)) == served
    history = await handle.fetch_history()
    for other in (isolation_alone, TenancyPlugin(), app_plugin(database)):
        await Replayer(workflows=[Failing], plugins=[other]).replay_workflow(history)


@pytest.mark.usefixtures("acme")
async def test_a_failed_run_replays_with_and_without_a_database(
    app: Client, database: Database
) -> None:
    async with failing_worker(app):
        handle = await start(app, "fail")
        await failing(handle)
    history = await handle.fetch_history()
    for plugin in (TenancyPlugin(), app_plugin(database)):
        replayer = Replayer(workflows=[Failing], plugins=[plugin])
        await replayer.replay_workflow(history)


async def test_a_worker_without_a_database_fails_its_runs_as_ever(
    temporal: TemporalDevServer, namespace: str
) -> None:
    client = await Client.connect(temporal.address, namespace=namespace, plugins=[TenancyPlugin()])
    async with failing_worker(client):
        cause = await failing(await start(client, "fail"))
    assert isinstance(cause, ApplicationError)
    assert cause.type == "CannotBeDone"

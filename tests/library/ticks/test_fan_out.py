"""A fan-out runs a job for every tenant, and the ledger records each tenant's result."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import SchemaBehind
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.suspension import release
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult, fan_out
from temporal_tenancy.ticks.fan_out.children import state_of_child
from temporal_tenancy.ticks.fan_out.planning import tick_of
from tests.fixtures.app import (
    another_client,
    app_plugin,
    app_worker,
    rows_of,
    states_of,
)
from tests.fixtures.jobs import fan_out_control
from tests.fixtures.jobs.fan_out_control import Control

JOB = "test.controlled"
MONTHLY = "test.controlled_monthly"


@pytest.fixture
async def worker(controlled_worker: Worker) -> Worker:
    return controlled_worker


async def add_tenants(tenants: Tenants, count: int) -> list[str]:
    """Adds tenants that may all run the job."""
    ids = [f"t{number:03}" for number in range(count)]
    for tenant in ids:
        await tenants.add(tenant, tenant, plan="enterprise")
    return ids


async def start(
    client: Client, tick: str, *, run: str = "1", shard_size: int = 2_000, window: int = 100
) -> WorkflowHandle[FanOut, FanOutResult]:
    return await client.start_workflow(
        FanOut.run,
        FanOutInput(job=JOB, tick=tick, shard_size=shard_size, window=window),
        id=f"platform/{JOB}/tick-{tick}-{run}",
        task_queue="bulk",
    )


async def shard_of(
    client: Client, handle: WorkflowHandle[FanOut, FanOutResult]
) -> WorkflowHandle[Any, Any]:
    """Returns the first shard of a fan-out that has started one."""
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.HasField("child_workflow_execution_started_event_attributes"):
            started = event.child_workflow_execution_started_event_attributes
            return client.get_workflow_handle(started.workflow_execution.workflow_id)
    raise AssertionError("the fan-out has no shard")


async def test_every_tenant_runs_once_and_the_ledger_says_so(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    ids = await add_tenants(tenants, 25)
    result = await (await start(app, "a", shard_size=10, window=4)).result()
    assert (result.planned, result.succeeded, result.failed) == (25, 25, 0)
    assert control.runs == dict.fromkeys(ids, 1)
    assert await states_of(database, JOB, "a") == dict.fromkeys(ids, "succeeded")
    rows = await rows_of(database, JOB, "a")
    assert all(row.attempts == 1 and row.run_id and row.started_at for row in rows)
    assert rows[0].workflow_id == f"t000/{JOB}/a"
    async with database.platform_session("test") as session:
        tick = await ledger.find_tick(session, JOB, "a")
    assert tick is not None
    assert (tick.state, tick.ended_at is not None) == ("ended", True)


async def test_the_window_bounds_how_many_run_at_once(
    app: Client, tenants: Tenants, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 12)
    await (await start(app, "a", window=3)).result()
    assert control.most_running <= 3


async def test_a_failed_tenant_stops_no_other_and_a_second_run_does_only_that_one(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 6)
    control.failing = {"t002"}
    first = await (await start(app, "a")).result()
    assert (first.succeeded, first.failed) == (5, 1)
    assert [f.model_dump() for f in first.failures] == [
        {"tenant_id": "t002", "reason": "Broken: t002 is broken"}
    ]
    [row] = [row for row in await rows_of(database, JOB, "a") if row.state == "failed"]
    assert (row.tenant_id, row.error_type, row.reason) == (
        "t002",
        "Broken",
        "Broken: t002 is broken",
    )
    control.failing = set()
    second = await (await start(app, "a", run="2")).result()
    assert (second.planned, second.succeeded, second.already) == (6, 1, 5)
    assert control.runs["t002"] == 2
    assert sum(control.runs.values()) == 7


async def test_a_tenant_whose_store_is_behind_waits_in_its_place_and_is_not_skipped(
    app: Client, tenants: Tenants, database: Database, control: Control
) -> None:
    ids = await add_tenants(tenants, 5)
    behind = {"t001"}
    why = SchemaBehind("the store of t001 is at 0001.")
    feature = Feature("behind", waits_for=lambda tenant, job: why if tenant.id in behind else None)
    client = await another_client(app, app_plugin(database, feature))
    async with app_worker(client):
        run = await start(client, "a", window=2)
        others = {each: "succeeded" for each in ids if each not in behind}
        while await states_of(database, JOB, "a") != others | {"t001": "running"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        behind.clear()
        while not await release(client, "t001"):  # noqa: ASYNC110  # the list of runs is late
            await asyncio.sleep(0.05)
        result = await run.result()
    assert (result.succeeded, result.failed, result.skipped) == (5, 0, 0)
    assert control.runs == dict.fromkeys(ids, 1)


async def test_what_one_tenants_run_ends_with_stops_no_other(
    app: Client, tenants: Tenants, database: Database, worker: Worker
) -> None:
    """An encoded result, and an encoded failure's details, that cannot be decoded."""
    for tenant in ("raises", "returns", "sound"):
        await tenants.add(tenant, tenant, plan="enterprise")
    async with asyncio.timeout(30):
        result = await app.execute_workflow(
            FanOut.run,
            FanOutInput(job="test.monstrous", tick="a"),
            id="platform/test.monstrous/tick-a-1",
            task_queue="bulk",
        )
    assert (result.succeeded, result.failed) == (2, 1)
    assert [f.model_dump() for f in result.failures] == [
        {"tenant_id": "raises", "reason": "Monstrous: no"}
    ]
    found = await state_of_child(app, "raises", "raises/test.monstrous/a")
    assert found is not None
    assert (found.state, found.reason) == ("failed", "Monstrous: no")


async def test_whatever_a_failures_type_is_it_stops_no_other(
    app: Client, tenants: Tenants, database: Database, worker: Worker
) -> None:
    for tenant in ("mutters", "shouts", "shouts-too", "sound"):
        await tenants.add(tenant, tenant, plan="enterprise")
    async with asyncio.timeout(30):
        result = await app.execute_workflow(
            FanOut.run,
            FanOutInput(job="test.monstrous", tick="a"),
            id="platform/test.monstrous/tick-a-1",
            task_queue="bulk",
        )
    assert (result.succeeded, result.failed) == (1, 3)
    rows = await rows_of(database, "test.monstrous", "a")
    assert {row.error_type for row in rows} == {"NUL", f"{'T' * 500}…", None}
    found = await state_of_child(app, "mutters", "mutters/test.monstrous/a")
    assert found is not None
    assert (found.error_type, found.reason) == ("NUL", "NUL: no")


async def test_who_has_left_since_an_earlier_run_of_the_same_id_is_not_counted(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 3)
    control.failing = {"t000"}
    await (await start(app, "a")).result()
    await tenants.set_status("t000", TenantStatus.DELETED)
    again = await (await start(app, "a")).result()
    assert (again.planned, again.skipped, again.already) == (2, 0, 2)
    assert (await states_of(database, JOB, "a"))["t000"] == "failed"


async def test_tenants_that_may_not_run_are_skipped_with_the_reason(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 2)
    await tenants.add("poor", "poor", plan="free")
    await tenants.add("sleepy", "sleepy", plan="enterprise", status=TenantStatus.SUSPENDED)
    await tenants.add("leaving", "leaving", plan="enterprise", status=TenantStatus.OFFBOARDING)
    await tenants.add("gone", "gone", plan="enterprise", status=TenantStatus.DELETED)
    result = await (await start(app, "a")).result()
    assert (result.planned, result.succeeded, result.skipped, result.failed) == (5, 2, 3, 0)
    skipped = {r.tenant_id: r.error_type for r in await rows_of(database, JOB, "a")
               if r.state == "skipped"}  # fmt: skip
    assert skipped == {
        "leaving": "TenantOffboarding",
        "poor": "FeatureNotEnabled",
        "sleepy": "TenantSuspended",
    }
    await tenants.set_status("sleepy", TenantStatus.ACTIVE)
    again = await (await start(app, "a", run="2")).result()
    assert (again.succeeded, again.skipped, again.already) == (1, 2, 2)


async def test_a_tenant_suspended_while_its_turn_comes_is_skipped_and_not_failed(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 2)
    control.holding = {"t000"}
    handle = await start(app, "a", window=1)
    await fan_out_control.until(lambda c: "t000" in c.running)
    await tenants.set_status("t001", TenantStatus.SUSPENDED)
    control.released.set()
    result = await handle.result()
    assert (result.succeeded, result.skipped, result.failed) == (1, 1, 0)
    assert (await states_of(database, JOB, "a"))["t001"] == "skipped"


async def test_a_stuck_tenant_holds_up_neither_its_shard_nor_the_next(
    app: Client, tenants: Tenants, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 9)
    control.holding = {"t001"}
    handle = await start(app, "a", shard_size=3, window=2)
    await fan_out_control.until(lambda c: len(c.runs) == 9 and c.running == {"t001"})
    control.released.set()
    assert (await handle.result()).succeeded == 9


async def test_two_triggers_of_one_tick_run_nothing_twice(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    ids = await add_tenants(tenants, 5)
    control.holding = set(ids)
    first = await start(app, "a", run="1")
    await fan_out_control.until(lambda c: len(c.running) == 5)
    second = await start(app, "a", run="2")
    async for event in second.fetch_history_events(wait_new_event=True):
        if event.HasField("child_workflow_execution_started_event_attributes"):
            break
    control.released.set()
    results = [await first.result(), await second.result()]
    assert [(r.succeeded, r.already, r.failed) for r in results] == [(5, 0, 0), (0, 5, 0)]
    assert control.runs == dict.fromkeys(ids, 1)
    assert await states_of(database, JOB, "a") == dict.fromkeys(ids, "succeeded")


async def test_cancelling_stops_new_starts_and_says_who_was_not_started(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 6)
    control.holding = {"t000", "t001"}
    handle = await start(app, "a", shard_size=3, window=2)
    await fan_out_control.until(lambda c: c.running == {"t000", "t001"})
    await handle.cancel()
    shard = await shard_of(app, handle)
    async for event in shard.fetch_history_events(wait_new_event=True):
        if event.HasField("workflow_execution_cancel_requested_event_attributes"):
            break
    control.released.set()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    states = await states_of(database, JOB, "a")
    assert {t: s for t, s in states.items() if s == "succeeded"} == {
        "t000": "succeeded",
        "t001": "succeeded",
    }
    assert sorted(s for s in states.values() if s != "succeeded") == ["not_started"] * 4
    again = await (await start(app, "a", run="2")).result()
    assert (again.succeeded, again.already) == (4, 2)


async def test_a_cancelled_tick_says_at_once_who_was_not_started(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    ids = await add_tenants(tenants, 4)
    control.holding = {"t000"}
    handle = await start(app, "a", window=1)
    await until_states(database, "a", dict(zip(ids, ["running"] + ["planned"] * 3, strict=True)))
    await handle.cancel()
    # While the running one goes on.
    left = dict(zip(ids, ["running"] + ["not_started"] * 3, strict=True))
    await until_states(database, "a", left)
    assert control.running == {"t000"}
    async with database.platform_session("test") as session:
        tick = await ledger.find_tick(session, JOB, "a")
    assert tick is not None
    assert (tick.state, tick.reason) == (
        "cancelled",
        "the fan-out was cancelled before this tenant's turn.",
    )
    control.released.set()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert await states_of(database, JOB, "a") == left | {"t000": "succeeded"}


async def test_children_carry_their_own_tenant_weight_and_words(
    app: Client, tenants: Tenants, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 2)
    await (await start(app, "a")).result()
    described = await app.get_workflow_handle(f"t001/{JOB}/a").describe()
    priority = described.raw_description.workflow_execution_info.priority
    assert (priority.fairness_key, priority.fairness_weight) == ("t001", 5.0)
    assert await described.static_summary() == f"{JOB} for t001: a"
    found = [w.id async for w in app.list_workflows(f"TenantId = 't001' AND Job = '{JOB}'")]
    assert found == [f"t001/{JOB}/a"]


async def test_input_that_fits_no_tenant_fails_the_tick_before_it_is_planned(
    app: Client, tenants: Tenants, database: Database, worker: Worker
) -> None:
    await add_tenants(tenants, 2)
    with pytest.raises(WorkflowFailureError) as caught:
        await app.execute_workflow(
            FanOut.run,
            FanOutInput(job=JOB, tick="a", extra={"unknown": 1}),
            id=f"platform/{JOB}/tick-a",
            task_queue="bulk",
        )
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "InvalidPayload"
    assert await rows_of(database, JOB, "a") == []


async def test_a_fan_out_without_tenants_ends(
    app: Client, database: Database, worker: Worker
) -> None:
    result = await (await start(app, "a")).result()
    assert result.planned == 0


@pytest.mark.parametrize(
    ("nominal", "tick"),
    [
        (datetime(2013, 5, 1, 6, tzinfo=UTC), "2013-04"),
        (datetime(2014, 1, 1, 6, tzinfo=UTC), "2013-12"),
        (datetime(2013, 3, 31, 6, tzinfo=UTC), "2013-02"),
    ],
)
def test_the_tick_of_a_monthly_job_is_the_month_before_its_nominal_time(
    nominal: datetime, tick: str
) -> None:
    assert tick_of(registry[MONTHLY], nominal) == tick


async def test_cancelling_while_tenants_are_planned_starts_none_and_closes_the_tick(
    app: Client,
    tenants: Tenants,
    database: Database,
    database_urls: DatabaseUrls,
    worker: Worker,
    control: Control,
) -> None:
    ids = await add_tenants(tenants, 3)
    with connect(database_urls.owner) as owner:
        with owner.transaction():
            owner.execute("lock table tenancy.ledger in access exclusive mode")
            handle = await start(app, "a")
            async for event in handle.fetch_history_events(wait_new_event=True):
                if event.HasField("activity_task_scheduled_event_attributes"):
                    break
            await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert not control.runs
    assert set((await states_of(database, JOB, "a")).values()) <= {"not_started"}
    async with database.platform_session("test") as session:
        tick = await ledger.find_tick(session, JOB, "a")
    assert tick is not None
    assert tick.state == "cancelled"
    again = await (await start(app, "a", run="2")).result()
    assert again.succeeded == len(ids)


async def test_who_joins_or_leaves_while_a_tick_runs_is_counted_as_what_he_is(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 4)
    control.holding = {"t000"}
    handle = await start(app, "a", shard_size=2, window=1)
    await fan_out_control.until(lambda c: "t000" in c.running)
    await tenants.add("t0025", "between the others", plan="enterprise")
    await tenants.set_status("t003", TenantStatus.DELETED)
    control.released.set()
    result = await handle.result()
    assert (result.planned, result.succeeded, result.skipped, result.already) == (4, 3, 1, 0)
    rows = {row.tenant_id: (row.state, row.error_type) for row in await rows_of(database, JOB, "a")}
    assert rows["t003"] == ("skipped", "TenantUnknown")
    assert "t0025" not in rows
    later = await (await start(app, "a", run="2")).result()
    assert (later.planned, later.succeeded, later.already) == (4, 1, 3)


async def test_a_tenant_that_succeeded_counts_as_such_also_when_it_is_suspended_later(
    app: Client, tenants: Tenants, worker: Worker, control: Control
) -> None:
    await add_tenants(tenants, 3)
    await (await start(app, "a")).result()
    await tenants.set_status("t001", TenantStatus.SUSPENDED)
    again = await (await start(app, "a", run="2")).result()
    assert (again.planned, again.already, again.skipped) == (3, 3, 0)


async def test_a_second_run_leaves_what_the_first_has_running_as_it_is(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    ids = await add_tenants(tenants, 3)
    control.holding = set(ids)
    first = await start(app, "a", run="1")
    await until_states(database, "a", dict.fromkeys(ids, "running"))
    second = await start(app, "a", run="2")
    async for event in second.fetch_history_events(wait_new_event=True):
        if event.HasField("child_workflow_execution_started_event_attributes"):
            break
    assert await states_of(database, JOB, "a") == dict.fromkeys(ids, "running")
    await second.cancel()
    control.released.set()
    assert (await first.result()).succeeded == 3
    with pytest.raises(WorkflowFailureError):
        await second.result()
    assert await states_of(database, JOB, "a") == dict.fromkeys(ids, "succeeded")
    assert all(row.started_at for row in await rows_of(database, JOB, "a"))


async def test_a_terminated_root_can_be_started_again_under_its_own_id(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    ids = await add_tenants(tenants, 3)
    control.holding = {"t000"}
    first = await start(app, "a", window=1)
    await fan_out_control.until(lambda c: "t000" in c.running)
    await first.terminate()
    second = await start(app, "a", window=1)
    async for event in second.fetch_history_events(wait_new_event=True):
        if event.HasField("child_workflow_execution_started_event_attributes"):
            break
    control.released.set()
    result = await second.result()
    assert (result.planned, result.failed) == (3, 0)
    assert await states_of(database, JOB, "a") == dict.fromkeys(ids, "succeeded")
    assert control.runs == dict.fromkeys(ids, 1)


async def test_a_root_that_is_reset_runs_nobody_twice(
    app: Client, tenants: Tenants, database: Database, worker: Worker, control: Control
) -> None:
    ids = await add_tenants(tenants, 5)
    control.holding = {"t001"}
    first = await start(app, "a", window=1, shard_size=3)
    await fan_out_control.until(lambda c: "t001" in c.running)
    history = (await first.fetch_history()).events
    done = next(
        event.event_id
        for event in history
        if event.HasField("workflow_task_completed_event_attributes")
    )
    run_id = first.first_execution_run_id or ""
    await app.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=app.namespace,
            workflow_execution=WorkflowExecution(workflow_id=first.id, run_id=run_id),
            reason="a test",
            workflow_task_finish_event_id=done,
            request_id=str(uuid.uuid4()),
        )
    )
    again = app.get_workflow_handle(first.id, result_type=FanOutResult)
    async for event in again.fetch_history_events(wait_new_event=True):
        if event.HasField("child_workflow_execution_started_event_attributes"):
            break
    control.released.set()
    result = await again.result()
    assert (result.planned, result.failed, result.skipped) == (5, 0, 0)
    assert result.succeeded + result.already == 5
    assert control.runs == dict.fromkeys(ids, 1)
    assert await states_of(database, JOB, "a") == dict.fromkeys(ids, "succeeded")


@pytest.mark.parametrize(("count", "shard_size"), [(3, 3), (4, 4), (6, 6), (7, 6), (6, 3), (9, 4)])
async def test_a_page_or_shard_that_is_just_full_loses_no_tenant(
    app: Client,
    tenants: Tenants,
    database: Database,
    control: Control,
    count: int,
    shard_size: int,
) -> None:
    pages_of_three = await another_client(app, app_plugin(database, fan_out(page_size=3)))
    ids = await add_tenants(tenants, count)
    async with app_worker(pages_of_three):
        result = await (await start(app, "a", shard_size=shard_size)).result()
    assert (result.planned, result.succeeded, result.already) == (count, count, 0)
    assert control.runs == dict.fromkeys(ids, 1)


async def test_the_next_page_is_read_before_the_first_tenants_end(
    app: Client, tenants: Tenants, database: Database, control: Control
) -> None:
    pages_of_three = await another_client(app, app_plugin(database, fan_out(page_size=3)))
    ids = await add_tenants(tenants, 7)
    control.holding = set(ids)
    async with app_worker(pages_of_three):
        handle = await start(app, "a", window=2)
        await fan_out_control.until(lambda c: c.running == {"t000", "t001"})
        pages = 0
        async for event in (await shard_of(app, handle)).fetch_history_events(wait_new_event=True):
            scheduled = event.activity_task_scheduled_event_attributes
            pages += scheduled.activity_type.name == "next_page"
            if pages == 2:
                break
        control.released.set()
        assert (await handle.result()).succeeded == 7
    assert control.most_running == 2


@pytest.mark.parametrize("job", ["fan_out.shard", "fan_out.tick", "echo.platform", "nope.job"])
async def test_there_is_no_fan_out_of_what_is_no_tenants_job(
    app: Client, worker: Worker, job: str
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await app.execute_workflow(
            FanOut.run,
            FanOutInput(job=job, tick="a"),
            id=f"platform/{job}/tick-a",
            task_queue="bulk",
        )
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "UnknownJob"


async def until_states(database: Database, tick: str, wanted: dict[str, str]) -> None:
    while await states_of(database, JOB, tick) != wanted:
        """The shard writes what it knows within two seconds."""

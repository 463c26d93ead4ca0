"""The ledger is settled from the server, and missed tenants are found and run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import (
    Client,
    DescribeScheduleInput,
    Interceptor,
    OutboundInterceptor,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.server_checks import keep_fairness, last_fairness
from temporal_tenancy.control_plane.tables import TickRow
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import Tenant, TenantStatus, use_directory
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.sdk.fairness import Fairness
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from temporal_tenancy.ticks.reconcile import _due_ticks as due_ticks
from temporal_tenancy.ticks.reconcile import reconcile
from temporal_tenancy.ticks.reconcile._fairness import check_fairness
from temporal_tenancy.ticks.reconcile._workflows import ReconcileTicks
from temporal_tenancy.ticks.reconcile.missed import missed_tenants, note_missed_ticks
from temporal_tenancy.ticks.reconcile.settlement import Settlement
from temporal_tenancy.ticks.schedules import ScheduledJob, apply
from tests.fixtures.app import another_client, app_plugin, app_worker, rows_of, states_of
from tests.fixtures.jobs import fan_out_control
from tests.fixtures.jobs.fan_out_control import Control
from tests.fixtures.log_lines import LogLines
from tests.library.ticks.test_fan_out import JOB, MONTHLY, add_tenants, start, until_states

pytestmark = pytest.mark.schedules

CONTROLLED = registry[JOB]
DAILY = "test.controlled_daily"


@pytest.fixture
async def worker(controlled_worker: Worker) -> Worker:
    return controlled_worker


@pytest.fixture
def platform(database: Database) -> Iterator[None]:
    """The context that reconciling needs, as in a platform activity."""
    with use_database(database), use_directory(ControlPlaneDirectory(database)):
        yield


async def settle(app: Client, tick: str = "a") -> int:
    return await Settlement(app).settle(CONTROLLED, tick)


async def tick_row(database: Database, tick: str, job: str = JOB) -> TickRow:
    async with database.platform_session("test") as session:
        found = await ledger.find_tick(session, job, tick)
    assert found is not None
    return found


async def missed_in(database: Database, tick: str) -> dict[str, str | None]:
    row = await tick_row(database, tick)
    now = datetime.now(UTC)
    missed = await missed_tenants(CONTROLLED, row, local_cron=None, now=now)
    return {each.tenant_id: each.state for each in missed}


async def put_in_force(app: Client, scheduled: ScheduledJob) -> None:
    await apply(app, [scheduled])
    while scheduled.id not in [listed.id async for listed in await app.list_schedules()]:
        """A new schedule is listed a moment later."""


async def sql(database: Database, statement: str, **given: Any) -> None:
    async with database.platform_session("test") as session:
        await session.execute(text(statement), given)


@pytest.mark.usefixtures("platform", "worker")
class TestSettling:
    async def test_a_terminated_fan_out_is_settled_from_what_the_server_says(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        ids = await add_tenants(tenants, 4)
        control.failing = {"t001"}
        control.holding = {"t000", "t001"}
        root = await start(app, "a", window=2)
        states = ["running", "running", "planned", "planned"]
        await until_states(database, "a", dict(zip(ids, states, strict=True)))
        async for shard in app.list_workflows(f"WorkflowId STARTS_WITH '{root.id}/shard-'"):
            await app.get_workflow_handle(shard.id).terminate()
        await root.terminate()
        control.released.set()
        for tenant in ("t000", "t001"):
            handle = app.get_workflow_handle(f"{tenant}/{JOB}/a")
            await asyncio.wait([asyncio.ensure_future(handle.result())])
        assert (await tick_row(database, "a")).state == "running"  # nobody could say otherwise
        assert await settle(app) == 4
        assert await states_of(database, JOB, "a") == dict(
            zip(ids, ["succeeded", "failed", "not_started", "not_started"], strict=True)
        )
        row = await tick_row(database, "a")
        assert (row.state, row.reason) == (
            "failed",
            "its fan-out was terminated and did not record how it ended.",
        )
        assert await missed_in(database, "a") == {
            "t001": "failed",
            "t002": "not_started",
            "t003": "not_started",
        }
        assert await settle(app) == 0

    async def test_a_run_that_a_person_started_by_hand_counts(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        await add_tenants(tenants, 2)
        control.failing = {"t001"}
        await (await start(app, "a")).result()
        control.failing = set()
        await app.execute_workflow(
            JOB, {"tenant_id": "t001"}, id=f"t001/{JOB}/a", task_queue="bulk"
        )
        assert await settle(app) == 1
        assert await missed_in(database, "a") == {}

    async def test_a_fan_out_that_runs_keeps_what_it_has_still_to_start(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        ids = await add_tenants(tenants, 3)
        control.holding = {"t000"}
        root = await start(app, "a", window=1)
        running = dict(zip(ids, ["running", "planned", "planned"], strict=True))
        await until_states(database, "a", running)
        assert await settle(app) == 0
        assert await states_of(database, JOB, "a") == running
        assert await missed_in(database, "a") == {}
        control.released.set()
        assert (await root.result()).succeeded == 3

    async def test_who_waits_for_a_second_run_is_not_failed_by_the_first(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        ids = await add_tenants(tenants, 2)
        control.failing = set(ids)
        await (await start(app, "a")).result()
        control.failing, control.holding = set(), {"t000"}
        again = await start(app, "a", run="2", window=1)
        waiting = dict(zip(ids, ["running", "planned"], strict=True))
        await until_states(database, "a", waiting)
        assert await settle(app) == 0
        assert await states_of(database, JOB, "a") == waiting
        control.released.set()
        assert (await again.result()).succeeded == 2

    async def test_catching_up_leaves_the_turns_of_a_fan_out_that_is_at_work(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        ids = await add_tenants(tenants, 3)
        control.failing, control.holding = {"t000"}, {"t001"}
        root = await start(app, "a", window=1)
        states = ["failed", "running", "planned"]
        await until_states(database, "a", dict(zip(ids, states, strict=True)))
        control.failing = set()
        catch_up = await app.start_workflow(
            FanOut.run,
            FanOutInput(job=JOB, tick="a", missed=True),
            id=f"platform/{JOB}/tick-a",
            task_queue="bulk",
        )
        states = ["succeeded", "running", "planned"]
        await until_states(database, "a", dict(zip(ids, states, strict=True)))
        control.released.set()
        assert (await catch_up.result()).planned == 2
        assert (await root.result()).succeeded == 2
        assert control.runs == {"t000": 2, "t001": 1, "t002": 1}

    async def test_who_is_no_longer_one_of_those_that_a_job_is_for_is_not_missed(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        await tenants.add("acme", "Acme", plan="enterprise", status=TenantStatus.TRIAL)
        control.failing = {"acme"}
        trials = [TenantStatus.TRIAL]
        await app.execute_workflow(
            FanOut.run,
            FanOutInput(job=JOB, tick="a", statuses=trials),
            id=f"platform/{JOB}/tick-a",
            task_queue="bulk",
        )
        row, now = await tick_row(database, "a"), datetime.now(UTC)
        missed = await missed_tenants(CONTROLLED, row, statuses=trials, local_cron=None, now=now)
        assert [each.tenant_id for each in missed] == ["acme"]
        await tenants.set_status("acme", TenantStatus.ACTIVE)
        assert not await missed_tenants(CONTROLLED, row, statuses=trials, local_cron=None, now=now)

    async def test_a_run_that_the_server_has_forgotten_is_not_taken_for_a_success(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        await add_tenants(tenants, 1)
        control.failing = {"t000"}
        await (await start(app, "a")).result()
        await sql(database, "update tenancy.ledger set state = 'running', workflow_id = "
        "'t000/x.y/gone', "
                  "planned_by = 'platform/x.y/gone'")  # fmt: skip
        await settle(app)
        [row] = await rows_of(database, JOB, "a")
        assert (row.state, row.error_type) == ("failed", "RunForgotten")
        assert await missed_in(database, "a") == {"t000": "failed"}

    async def test_who_was_skipped_is_missed_once_it_may_run_again(
        self, app: Client, tenants: Tenants, database: Database
    ) -> None:
        await add_tenants(tenants, 2)
        await tenants.set_status("t001", TenantStatus.SUSPENDED)
        await tenants.add("poor", "poor", plan="free")
        await (await start(app, "a")).result()
        assert await missed_in(database, "a") == {}
        await tenants.set_status("t001", TenantStatus.ACTIVE)
        assert await missed_in(database, "a") == {"t001": "skipped"}


class TwoByTwo(ControlPlaneDirectory):
    """A directory with small pages."""

    async def page(self, *, limit: int, **asked: Any) -> Sequence[Tenant]:
        return await super().page(limit=min(limit, 2), **asked)


@pytest.mark.usefixtures("platform", "control")
async def test_whom_a_lost_fan_out_did_not_come_to_plan_is_missed_and_caught_up_with(
    app: Client,
    tenants: Tenants,
    database: Database,
    database_urls: DatabaseUrls,
) -> None:
    two_by_two = await another_client(app, app_plugin(database, directory=TwoByTwo(database)))
    ids = await add_tenants(tenants, 5)
    insert = (
        "insert into tenancy.ledger (job, tick, tenant_id, state) values (%s, 'a', 't003', "
        "'failed')"
    )
    with connect(database_urls.owner) as owner, owner.transaction(force_rollback=True):
        owner.execute(insert, [JOB])  # until it is rolled back, no one can plan the second page
        async with app_worker(two_by_two):
            root = await start(app, "a")
            await until_states(database, "a", dict.fromkeys(ids[:2], "planned"))
            await root.terminate()
    assert await missed_in(database, "a") == {}  # it may continue, as far as anyone knows
    await settle(app)
    row = await tick_row(database, "a")
    assert (row.state, row.planned_at) == ("failed", None)
    missed = await missed_in(database, "a")
    assert missed == {**dict.fromkeys(ids, None), **dict.fromkeys(ids[:2], "not_started")}
    async with app_worker(two_by_two):
        again = await (await start(app, "a", run="2")).result()
    assert (again.planned, again.succeeded) == (5, 5)
    row = await tick_row(database, "a")
    assert (row.state, row.planned_at is not None) == ("ended", True)
    assert await missed_in(database, "a") == {}


class DeletesIt(Interceptor):
    """Deletes a schedule just before it is described: it has been listed by then."""

    def __init__(self, client: Client, schedule_id: str) -> None:
        self.client = client
        self.schedule_id = schedule_id
        self.has_deleted = False

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _DeletesIt(next, self)


class _DeletesIt(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, it: DeletesIt) -> None:
        super().__init__(next)
        self.it = it

    async def describe_schedule(self, input: DescribeScheduleInput) -> ScheduleDescription:
        if input.id == self.it.schedule_id:
            await self.it.client.get_schedule_handle(input.id).delete()
            self.it.has_deleted = True
        return await super().describe_schedule(input)


@pytest.mark.usefixtures("platform")
class TestMissedTicks:
    """Schedules are in force from their creation: the test moves the clock."""

    async def due(self, app: Client, scheduled: ScheduledJob, after: timedelta) -> list[str]:
        await put_in_force(app, scheduled)
        now = datetime.now(UTC) + after
        return [tick.tick async for tick in due_ticks.due_ticks(app, now)]

    async def test_every_month_that_should_have_begun_is_named_once(
        self, app: Client, tenants: Tenants, database: Database
    ) -> None:
        await tenants.add("acme", "Acme", plan="enterprise")
        await put_in_force(app, ScheduledJob(MONTHLY, "0 6 1 * *"))
        now = datetime.now(UTC) + timedelta(days=80)
        found = await note_missed_ticks(app, now)
        assert len(found) in (2, 3)
        newest = registry[MONTHLY].period
        assert newest is not None
        assert found[-1].tick == newest.key_before(found[-1].nominal_time)
        row = await tick_row(database, found[0].tick, MONTHLY)
        assert (row.state, row.workflow_id) == ("missed", None)
        assert row.reason is not None
        assert row.reason.startswith("never began: the server was unavailable")
        assert await note_missed_ticks(app, now) == []
        missed = await missed_tenants(registry[MONTHLY], row, local_cron=None, now=now)
        assert [(each.tenant_id, each.state) for each in missed] == [("acme", None)]

    async def test_a_pause_is_the_reason_while_it_lasts(
        self, app: Client, tenants: Tenants, database: Database
    ) -> None:
        scheduled = ScheduledJob(MONTHLY, "0 6 1 * *")
        await put_in_force(app, scheduled)
        await app.get_schedule_handle(scheduled.id).pause(note="prices change")
        [first, *_] = await note_missed_ticks(app, datetime.now(UTC) + timedelta(days=40))
        row = await tick_row(database, first.tick, MONTHLY)
        assert row.reason == "never began: its schedule is paused (prices change)."

    async def test_of_a_job_without_a_period_only_the_last_tick_is_due(self, app: Client) -> None:
        found = await self.due(app, ScheduledJob(JOB, "0 */4 * * *"), timedelta(days=2))
        assert len(found) == 1

    async def test_the_last_tick_is_found_behind_thousands(self, app: Client) -> None:
        await put_in_force(app, ScheduledJob(JOB, "*/5 * * * *"))
        now = datetime.now(UTC) + timedelta(days=10)
        [last] = [tick async for tick in due_ticks.due_ticks(app, now)]
        assert now - last.nominal_time < due_ticks.GRACE + timedelta(minutes=5)

    async def test_a_local_day_is_due_when_it_is_over_everywhere(self, app: Client) -> None:
        scheduled = ScheduledJob(DAILY, "0 8 * * *", local_time=True)
        found = await self.due(app, scheduled, timedelta(days=5))
        assert len(found) in (2, 3, 4)
        assert found == sorted(set(found))
        latest = datetime.now(UTC) + timedelta(days=5) - timedelta(hours=20)
        assert found[-1] <= f"{latest - timedelta(days=1):%Y-%m-%d}"

    async def test_a_line_of_a_release_before_that_cannot_be_read_hides_no_other_schedules_ticks(
        self, app: Client, log_lines: LogLines
    ) -> None:
        odd = ScheduledJob(DAILY, "0 8 * * *", local_time=True)
        schedule = odd.schedule()
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)
        schedule.action.args = [odd.fan_out.model_copy(update={"cron": "0 8 * * 1#1"})]
        await app.create_schedule(odd.id, schedule)
        while odd.id not in [listed.id async for listed in await app.list_schedules()]:
            """A new schedule is listed a moment later."""
        found = await self.due(app, ScheduledJob(MONTHLY, "0 6 1 * *"), timedelta(days=40))
        assert found != []
        assert log_lines.one("schedule.unreadable")["schedule"] == odd.id

    async def test_a_schedule_that_is_deleted_meanwhile_hides_no_other(
        self, app: Client, database: Database
    ) -> None:
        gone = ScheduledJob(DAILY, "0 6 1 * *")
        await put_in_force(app, gone)
        deleting = DeletesIt(app, gone.id)
        late = await another_client(app, app_plugin(database), [deleting])
        monthly = ScheduledJob(MONTHLY, "0 6 1 * *")
        assert await self.due(late, monthly, timedelta(days=40)) != []
        assert deleting.has_deleted

    async def test_a_fan_out_that_waits_for_a_worker_is_not_missed(
        self, app: Client, tenants: Tenants
    ) -> None:
        await tenants.add("acme", "Acme", plan="enterprise")
        scheduled = ScheduledJob(MONTHLY, "0 6 1 * *")
        await put_in_force(app, scheduled)
        now = datetime.now(UTC) + timedelta(days=40)
        [due, *_] = [tick async for tick in due_ticks.due_ticks(app, now)]
        assert due.workflow_id is not None
        # Like the schedule at its time: there is no worker.
        waiting = await app.start_workflow(
            FanOut.run, scheduled.fan_out, id=due.workflow_id, task_queue="bulk"
        )
        assert due.tick not in [each.tick for each in await note_missed_ticks(app, now)]
        await waiting.terminate()
        assert due.tick in [each.tick for each in await note_missed_ticks(app, now)]

    async def test_where_there_are_no_tenants_no_local_day_is_missed(
        self, app: Client, tenants: Tenants
    ) -> None:
        await put_in_force(app, ScheduledJob(DAILY, "0 8 * * *", local_time=True))
        now = datetime.now(UTC) + timedelta(days=5)
        assert await note_missed_ticks(app, now) == []
        await tenants.add("acme", "Acme", plan="enterprise")
        assert await note_missed_ticks(app, now) != []

    async def test_what_is_not_due_is_not_missed(self, app: Client) -> None:
        scheduled = ScheduledJob(MONTHLY, "0 6 1 * *")
        assert await self.due(app, scheduled, timedelta(0)) == []

    async def test_a_schedule_that_was_changed_answers_only_for_the_time_since(
        self, app: Client
    ) -> None:
        scheduled = ScheduledJob(DAILY, "0 8 * * *")
        await put_in_force(app, scheduled)

        def later(input: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(input.description.schedule)

        handle = app.get_schedule_handle(scheduled.id)
        before = (await handle.describe()).info.created_at
        await handle.update(later)
        changed = (await handle.describe()).info.last_updated_at
        assert changed is not None
        assert changed > before
        found = [tick.nominal_time async for tick in
                 due_ticks.due_ticks(app, changed + timedelta(days=3))]  # fmt: skip
        assert all(nominal > changed for nominal in found)
        assert len(found) in (2, 3)


class TestTheJob:
    async def test_it_settles_lost_ticks_names_missed_ones_and_forgets_old_ones(
        self,
        app: Client,
        tenants: Tenants,
        database: Database,
        control: Control,
    ) -> None:
        few = await another_client(app, app_plugin(database, reconcile(pruned_at_once=2)))
        ids = await add_tenants(tenants, 3)
        async with app_worker(few):
            for tick in ("lost", "old", "kept"):
                control.holding = {"t000"} if tick == "lost" else set()
                root = await start(app, tick, window=1)
                if tick == "lost":
                    await fan_out_control.until(lambda c: "t000" in c.running)
                    await root.terminate()
                    control.released.set()
                else:
                    await root.result()
            await sql(
                database,
                "update tenancy.ticks set started_at = now() - interval '91 days' where tick = "
                "'old'",
            )
            result = await app.execute_workflow(
                ReconcileTicks.run, id="platform/ticks.reconcile/now", task_queue="bulk"
            )
        assert (result.settled.ticks, result.missed.found, result.ticks_pruned) == (1, 0, 1)
        assert await states_of(database, JOB, "old") == {}
        assert await states_of(database, JOB, "kept") == dict.fromkeys(ids, "succeeded")
        assert (await tick_row(database, "lost")).state == "failed"
        async with database.platform_session("test") as session:
            assert await ledger.find_tick(session, JOB, "old") is None
        checked = await last_fairness(database, app.namespace)
        assert checked is not None
        assert checked.holds

    async def test_it_warns_while_fairness_is_off_and_asks_the_server_once_a_day(
        self, app: Client, database: Database, log_lines: LogLines
    ) -> None:
        await keep_fairness(database, app.namespace, Fairness(share=0.9))
        async with app_worker(app):
            await app.execute_workflow(
                ReconcileTicks.run, id="platform/ticks.reconcile/now", task_queue="bulk"
            )
        assert log_lines.one("fairness.off")["sentence"].startswith("FairnessOff: ")
        assert (await app.count_workflows("WorkflowType = 'fairness.probe'")).count == 0

    async def test_it_succeeds_on_a_worker_that_cannot_check_fairness(
        self, app: Client, database: Database
    ) -> None:
        whole = reconcile()
        before = tuple(each for each in whole.activities if each is not check_fairness)
        older = app_plugin(database, replace(whole, activities=before))
        async with app_worker(await another_client(app, older)):
            result = await app.execute_workflow(
                ReconcileTicks.run, id="platform/ticks.reconcile/now", task_queue="bulk"
            )
        assert result.missed.found == 0

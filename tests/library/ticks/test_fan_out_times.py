"""When a fan-out starts each tenant: local time, spread, and starts per second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from temporalio.client import (
    Client,
    ScheduleActionExecutionStartWorkflow,
    ScheduleBackfill,
    WorkflowFailureError,
)
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import use_directory
from temporal_tenancy.core.due_times import spread_offset
from temporal_tenancy.core.failures import root_cause
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult
from temporal_tenancy.ticks.reconcile.missed import missed_tenants
from temporal_tenancy.ticks.schedules import Applied, ScheduledJob, apply
from tests.fixtures.app import add_active_tenants, rows_of, states_of
from tests.fixtures.jobs import fan_out_control
from tests.fixtures.jobs.fan_out_control import Control
from tests.library.ticks.test_fan_out import JOB, MONTHLY, add_tenants

pytestmark = pytest.mark.schedules

DAILY = "test.controlled_daily"
EIGHT = "0 8 * * *"


@pytest.fixture
async def worker(controlled_worker: Worker) -> Worker:
    return controlled_worker


@pytest.fixture
async def three_zones(tenants: Tenants) -> None:
    for tenant, zone in (
        ("york", "America/New_York"),
        ("lulu", "Pacific/Honolulu"),
        ("mati", "Pacific/Kiritimati"),
    ):
        await tenants.add(tenant, tenant, plan="enterprise", time_zone=zone)


async def backfill(app: Client, scheduled: ScheduledJob, since: str, until: str) -> list[str]:
    """Runs the ticks due between two times; returns the ids of their ended fan-outs."""
    await apply(app, [scheduled])
    first, last = (datetime.fromisoformat(time).replace(tzinfo=UTC) for time in (since, until))
    handle = app.get_schedule_handle(scheduled.id)
    await handle.backfill(
        ScheduleBackfill(start_at=first - timedelta(seconds=1), end_at=last - timedelta(seconds=1))
    )
    ids = []
    while first < last:
        ids.append(f"{scheduled.workflow_id}-{first:%Y-%m-%dT%H:%M:%SZ}")
        first += timedelta(minutes=15)
    for each in ids:
        await until_started(app, each)
        await app.get_workflow_handle(each).result()
    return ids


async def until_started(client: Client, workflow_id: str) -> None:
    query = f"WorkflowId = '{workflow_id}'"
    while (await client.count_workflows(query)).count == 0:
        """The schedule starts it when the one before has ended."""


async def trigger(app: Client, scheduled: ScheduledJob) -> str:
    """Triggers a schedule; returns the id of its fan-out."""
    await apply(app, [scheduled])
    handle = app.get_schedule_handle(scheduled.id)
    await handle.trigger()
    while not (actions := (await handle.describe()).info.recent_actions):
        """The server's scheduler takes the trigger up by itself."""
    action = actions[-1].action
    assert isinstance(action, ScheduleActionExecutionStartWorkflow)
    return action.workflow_id


async def test_a_schedule_is_applied_once_and_its_backfill_runs_every_month(
    app: Client, database: Database, worker: Worker
) -> None:
    await add_active_tenants(database, 2)
    scheduled = ScheduledJob(MONTHLY, "0 6 1 * *")
    assert await apply(app, [scheduled]) == {scheduled.id: Applied.CREATED}
    assert await apply(app, [scheduled]) == {scheduled.id: Applied.UNCHANGED}
    handle = app.get_schedule_handle(scheduled.id)
    await handle.backfill(
        ScheduleBackfill(
            start_at=datetime(2013, 1, 31, 0, tzinfo=UTC),
            end_at=datetime(2013, 4, 2, tzinfo=UTC),
        )
    )
    for nominal in ("2013-02-01", "2013-03-01", "2013-04-01"):
        root = f"platform/{MONTHLY}/tick-{nominal}T06:00:00Z"
        await until_started(app, root)
        await app.get_workflow_handle(root).result()
    for tick in ("2013-01", "2013-02", "2013-03"):
        assert await states_of(database, MONTHLY, tick) == {
            "t00001": "succeeded",
            "t00002": "succeeded",
        }
    described = await app.get_workflow_handle(
        f"platform/{MONTHLY}/tick-2013-02-01T06:00:00Z"
    ).describe()
    assert described.raw_description.workflow_execution_info.priority.fairness_key == "platform"


@pytest.mark.usefixtures("worker", "three_zones")
class TestLocalTime:
    async def test_each_tenant_has_its_run_when_its_own_clock_says_so(
        self, app: Client, database: Database
    ) -> None:
        scheduled = ScheduledJob(DAILY, EIGHT, local_time=True)
        [summer] = await backfill(app, scheduled, "2013-03-10T12:00", "2013-03-10T12:15")
        assert await states_of(database, DAILY, "2013-03-09") == {"york": "succeeded"}
        [row] = await rows_of(database, DAILY, "2013-03-09")
        assert (row.planned_by, row.due_at) == (summer, datetime(2013, 3, 10, 12, tzinfo=UTC))
        # The day before the clock went forward it was an hour later.
        await backfill(app, scheduled, "2013-03-09T12:00", "2013-03-09T12:15")
        assert await states_of(database, DAILY, "2013-03-08") == {}
        await backfill(app, scheduled, "2013-03-09T13:00", "2013-03-09T13:15")
        assert await states_of(database, DAILY, "2013-03-08") == {"york": "succeeded"}

    async def test_where_it_is_two_dates_at_once_each_has_its_own_tick(
        self, app: Client, database: Database
    ) -> None:
        scheduled = ScheduledJob(DAILY, EIGHT, local_time=True)
        [root] = await backfill(app, scheduled, "2013-05-01T18:00", "2013-05-01T18:15")
        assert await states_of(database, DAILY, "2013-04-30") == {"lulu": "succeeded"}
        assert await states_of(database, DAILY, "2013-05-01") == {"mati": "succeeded"}
        result = await app.get_workflow_handle(root, result_type=FanOutResult).result()
        assert (result.tick, result.planned) == ("2013-04-30, 2013-05-01", 2)

    async def test_several_fan_outs_serve_one_tick_and_the_last_one_closes_it(
        self, app: Client, database: Database, control: Control
    ) -> None:
        scheduled = ScheduledJob(DAILY, EIGHT, local_time=True)
        control.holding = {"york"}
        await apply(app, [scheduled])
        await app.get_schedule_handle(scheduled.id).backfill(
            ScheduleBackfill(
                start_at=datetime(2013, 5, 1, 11, 59, tzinfo=UTC),
                end_at=datetime(2013, 5, 1, 12, 1, tzinfo=UTC),
            )
        )
        await fan_out_control.until(lambda c: c.running == {"york"})
        # It does not wait for the previous one, in which a tenant hangs.
        await backfill(app, scheduled, "2013-05-01T18:00", "2013-05-01T18:15")
        assert (await states_of(database, DAILY, "2013-04-30"))["lulu"] == "succeeded"
        assert await self.state(database, "2013-04-30") == "running"
        control.released.set()
        await app.get_workflow_handle(f"platform/{DAILY}/tick-2013-05-01T12:00:00Z").result()
        assert await self.state(database, "2013-04-30") == "ended"

    async def test_started_by_hand_it_is_for_everyone_who_is_due_by_now(
        self, app: Client, database: Database
    ) -> None:
        request = FanOutInput(job=DAILY, tick="2013-04-30", cron=EIGHT, local_time=True)
        root = f"platform/{DAILY}/tick-2013-04-30"
        await app.execute_workflow(FanOut.run, request, id=root, task_queue="bulk")
        rows = await rows_of(database, DAILY, "2013-04-30")
        assert {row.tenant_id: f"{row.due_at.astimezone(UTC):%d %H:%M}" for row in rows} == {
            "york": "01 12:00",
            "lulu": "01 18:00",
            "mati": "30 18:00",
        }
        tomorrow = datetime.now(UTC) + timedelta(days=2)
        request = request.model_copy(update={"tick": f"{tomorrow:%Y-%m-%d}"})
        root = f"platform/{DAILY}/tick-tomorrow"
        result = await app.execute_workflow(FanOut.run, request, id=root, task_queue="bulk")
        assert result.planned == 0

    async def test_a_tick_that_no_run_is_ever_about_fails(self, app: Client) -> None:
        request = FanOutInput(job=DAILY, tick="2013-04-30", cron="0 8 * * 1", local_time=True)
        with pytest.raises(WorkflowFailureError) as caught:
            await app.execute_workflow(
                FanOut.run, request, id=f"platform/{DAILY}/tick-x", task_queue="bulk"
            )
        cause = root_cause(caught.value.cause)
        assert isinstance(cause, ApplicationError)
        assert cause.type == "InvalidPayload"

    async def test_whom_no_fan_out_planned_is_missed_and_caught_up_but_not_who_came_later(
        self, app: Client, database: Database, tenants: Tenants
    ) -> None:
        scheduled = ScheduledJob(DAILY, EIGHT, local_time=True)
        await backfill(app, scheduled, "2013-05-01T12:00", "2013-05-01T12:15")
        async with database.platform_session("test") as session:
            tick = await ledger.find_tick(session, DAILY, "2013-04-30")
            # Lulu was there then; mati came later.
            await session.execute(
                text("update tenancy.tenants set status_since = '2013-01-01' where id = 'lulu'")
            )
        assert tick is not None
        with use_database(database), use_directory(ControlPlaneDirectory(database)):
            missed = await missed_tenants(
                registry[DAILY], tick, local_cron=EIGHT, now=datetime.now(UTC)
            )
        assert [(each.tenant_id, each.state) for each in missed] == [("lulu", None)]
        request = scheduled.fan_out.model_copy(update={"tick": "2013-04-30", "missed": True})
        result = await app.execute_workflow(
            FanOut.run, request, id=f"platform/{DAILY}/tick-2013-04-30", task_queue="bulk"
        )
        assert (result.planned, result.succeeded, result.already) == (2, 1, 1)

    async def test_whose_time_zone_is_unknown_is_skipped_and_not_started(
        self, app: Client, database: Database, control: Control
    ) -> None:
        async with database.platform_session("test") as session:
            await session.execute(
                text("update tenancy.tenants set time_zone = 'Mars/Base' where id = 'lulu'")
            )
        request = FanOutInput(job=DAILY, tick="2013-04-30", cron=EIGHT, local_time=True)
        root = f"platform/{DAILY}/tick-2013-04-30"
        result = await app.execute_workflow(FanOut.run, request, id=root, task_queue="bulk")
        assert (result.planned, result.succeeded, result.skipped) == (3, 2, 1)
        assert "lulu" not in control.runs
        [row] = [r for r in await rows_of(database, DAILY, "2013-04-30") if r.tenant_id == "lulu"]
        assert (row.state, row.error_type) == ("skipped", "TimeZoneUnknown")

    async def test_a_day_that_is_not_over_where_the_tenant_is_waits_until_it_is(
        self, app: Client, database: Database
    ) -> None:
        scheduled = ScheduledJob(DAILY, "0 5 * * *")  # one time for all
        await backfill(app, scheduled, "2013-05-02T05:00", "2013-05-02T05:15")
        due = {row.tenant_id: f"{row.due_at.astimezone(UTC):%d %H:%M}" for row in
               await rows_of(database, DAILY, "2013-05-01")}  # fmt: skip
        assert due == {"mati": "02 05:00", "york": "02 05:00", "lulu": "02 10:00"}

    async def state(self, database: Database, tick: str) -> str:
        async with database.platform_session("test") as session:
            row = await ledger.find_tick(session, DAILY, tick)
        assert row is not None
        return row.state


@pytest.mark.usefixtures("worker")
class TestSpreadAndPace:
    async def test_tenants_start_at_their_own_places_in_the_window_and_not_before(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        ids = await add_tenants(tenants, 12)
        scheduled = ScheduledJob(JOB, "* * * * *", spread=timedelta(seconds=4))
        root = await trigger(app, scheduled)
        handle = app.get_workflow_handle(root, result_type=FanOutResult)
        result = await handle.result()
        assert (result.planned, result.succeeded) == (12, 12)
        rows = await rows_of(database, JOB, result.tick)
        async with database.platform_session("test") as session:
            tick = await ledger.find_tick(session, JOB, result.tick)
        assert tick is not None
        assert tick.nominal_time is not None
        assert {row.tenant_id: row.due_at - tick.nominal_time for row in rows} == {
            tenant: spread_offset(tenant, JOB, scheduled.spread) for tenant in ids
        }
        started = await started_at(app, ids, result.tick)
        assert all(started[row.tenant_id] >= row.due_at for row in rows)
        assert control.runs == dict.fromkeys(ids, 1)

    async def test_started_by_hand_nobody_waits(
        self, app: Client, tenants: Tenants, database: Database
    ) -> None:
        await add_tenants(tenants, 5)
        scheduled = ScheduledJob(JOB, "0 3 29 2 *", spread=timedelta(hours=24))  # not now
        root = await trigger(app, scheduled)
        result = await app.get_workflow_handle(root, result_type=FanOutResult).result()
        assert result.succeeded == 5

    async def test_no_second_has_more_starts_than_allowed_also_across_shards(
        self, app: Client, tenants: Tenants
    ) -> None:
        ids = await add_tenants(tenants, 10)
        request = FanOutInput(job=JOB, tick="a", max_starts_per_second=4, shard_size=5)
        await app.execute_workflow(
            FanOut.run, request, id=f"platform/{JOB}/tick-a", task_queue="bulk"
        )
        asked = sorted(await asked_for(app, f"platform/{JOB}/tick-a"))
        assert len(asked) == len(ids)
        # The history records when the worker answered, a little after the time it used.
        apart = [later - earlier for earlier, later in zip(asked, asked[4:], strict=False)]
        assert min(apart) > timedelta(seconds=0.8)

    async def test_cancelling_ends_the_waiting(
        self, app: Client, tenants: Tenants, database: Database, control: Control
    ) -> None:
        ids = await add_tenants(tenants, 5)
        request = FanOutInput(job=JOB, tick="a", max_starts_per_second=0.01)
        handle = await app.start_workflow(
            FanOut.run, request, id=f"platform/{JOB}/tick-a", task_queue="bulk"
        )
        await fan_out_control.until(lambda c: sum(c.runs.values()) == 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert await states_of(database, JOB, "a") == {
            **dict.fromkeys(ids, "not_started"),
            "t000": "succeeded",
        }


async def started_at(app: Client, ids: list[str], tick: str) -> dict[str, datetime]:
    """Returns when each tenant's child started."""
    found = {}
    for tenant in ids:
        described = await app.get_workflow_handle(f"{tenant}/{JOB}/{tick}").describe()
        found[tenant] = described.start_time
    return found


async def asked_for(app: Client, root: str) -> list[datetime]:
    """Returns when each shard of a fan-out requested each of its children."""
    found = []
    events = (await app.get_workflow_handle(root).fetch_history()).events
    for event in events:
        if not event.HasField("child_workflow_execution_started_event_attributes"):
            continue
        shard = event.child_workflow_execution_started_event_attributes.workflow_execution
        history = await app.get_workflow_handle(shard.workflow_id).fetch_history()
        found += [
            each.event_time.ToDatetime(tzinfo=UTC)
            for each in history.events
            if each.HasField("start_child_workflow_execution_initiated_event_attributes")
        ]
    return found

"""Schedules: their runs pass no client, and still are in the right tenant."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import Priority

from temporal_tenancy.core.cron import read_cron
from temporal_tenancy.core.errors import ConfigurationError, TenancyError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.sdk import header
from temporal_tenancy.ticks.schedules import OVERLAP, Applied, ScheduledJob, apply, check_all
from tests.fixtures.cron_lines import cron_lines
from tests.fixtures.jobs import fan_out_jobs
from tests.fixtures.jobs import hops as jobs

pytestmark = [pytest.mark.schedules, pytest.mark.usefixtures("worker")]
assert fan_out_jobs.WORKFLOWS


def schedule_of(queue: str, tenant: str = "acme", *, id: str | None = None) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            jobs.Fairness.run,
            jobs.EchoInput(tenant_id=tenant),
            id=id or f"{tenant}/echo.fairness/{queue}",
            task_queue=queue,
        ),
        spec=ScheduleSpec(),
    )


@pytest.fixture
async def schedule(client: Client, queue: str) -> AsyncIterator[ScheduleHandle]:
    """A schedule of acme's, made in acme's scope."""
    with enter(TenantScope("acme")):
        handle = await client.create_schedule(f"acme/{queue}", schedule_of(queue))
    yield handle
    await handle.delete()


async def run_of(
    client: Client, handle: ScheduleHandle
) -> tuple[Any, WorkflowExecutionStartedEventAttributes]:
    """Triggers the schedule; returns the run's result and start event."""
    before = len((await handle.describe()).info.recent_actions)
    await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
    while len(actions := (await handle.describe()).info.recent_actions) == before:
        """The server's scheduler takes the trigger up by itself."""
    action: Any = actions[-1].action
    run = client.get_workflow_handle(action.workflow_id, run_id=action.first_execution_run_id)
    result = await run.result()
    started = (await run.fetch_history()).events[0].workflow_execution_started_event_attributes
    return result, started


async def test_a_run_of_a_schedule_made_in_a_tenants_scope_is_that_tenants(
    client: Client, schedule: ScheduleHandle
) -> None:
    (own, of_activity), started = await run_of(client, schedule)
    assert own[0] == of_activity[0] == "acme"
    assert own[2] == 2
    assert header.read(started.header.fields) == TenantScope("acme")
    assert set(started.search_attributes.indexed_fields) >= {"TenantId", "Job"}


async def test_an_update_keeps_the_stamps_and_a_new_action_gets_its_own(
    client: Client, schedule: ScheduleHandle, queue: str
) -> None:
    def pause(input: ScheduleUpdateInput) -> ScheduleUpdate:
        changed = input.description.schedule
        changed.spec = ScheduleSpec(cron_expressions=["0 0 1 1 *"])
        return ScheduleUpdate(changed)

    async def renew(input: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule_of(queue))

    for updater in (pause, renew, lambda input: None):
        await schedule.update(updater)
        (own, of_activity), started = await run_of(client, schedule)
        assert own[0] == of_activity[0] == "acme"
        assert header.read(started.header.fields) == TenantScope("acme")


async def test_a_schedule_that_a_plain_client_made_or_changed_runs_in_its_inputs_tenant(
    client: Client, raw_client: Client, schedule: ScheduleHandle, queue: str
) -> None:
    def strip(input: ScheduleUpdateInput) -> ScheduleUpdate:
        action = ScheduleActionStartWorkflow(
            "echo.fairness",
            {"tenant_id": "acme"},
            id=f"acme/echo.fairness/{queue}",
            task_queue=queue,
        )
        return ScheduleUpdate(dataclasses.replace(input.description.schedule, action=action))

    await raw_client.get_schedule_handle(schedule.id).update(strip)
    (own, of_activity), started = await run_of(client, schedule)
    assert (own[0], of_activity[0]) == (None, "acme")
    assert header.read(started.header.fields) is None


@pytest.mark.parametrize(
    ("schedule_id", "action_id", "tenant"),
    [
        ("acme/x", "acme/x", "acme"),  # two segments: the nominal time would break the job
        ("acme/x", "globex/echo.fairness/x", "acme"),
        ("acme/x", "acme/echo.fairness/x", "globex"),
        ("globex/x", "acme/echo.fairness/x", "acme"),
        ("acme/x", "acme/echo.tell/x", "acme"),
        ("acme/x", "acme/echo.fairness/x", "a*"),
    ],
)
async def test_a_schedule_whose_runs_would_be_refused_is_not_made(
    client: Client, queue: str, schedule_id: str, action_id: str, tenant: str
) -> None:
    with pytest.raises(TenancyError):
        await client.create_schedule(schedule_id, schedule_of(queue, tenant, id=action_id))


async def test_a_schedule_cannot_start_another_tenants_work_of_a_job_unknown_here(
    client: Client, queue: str
) -> None:
    action = ScheduleActionStartWorkflow(
        "of_a_newer.release",
        {"tenant_id": "globex"},
        id="globex/of_a_newer.release/x",
        task_queue=queue,
    )
    with enter(TenantScope("acme")), pytest.raises(TenancyError, match="acme cannot schedule"):
        await client.create_schedule(f"acme/{queue}", Schedule(action=action, spec=ScheduleSpec()))


@pytest.mark.parametrize("act", ["pause", "unpause", "trigger", "describe", "delete", "backfill"])
async def test_a_tenants_code_reaches_no_other_tenants_schedule(
    schedule: ScheduleHandle, act: str
) -> None:
    day = datetime(2013, 1, 1, tzinfo=UTC)
    given = [ScheduleBackfill(start_at=day, end_at=day)] if act == "backfill" else []
    refused = pytest.raises(TenancyError, match=r"globex cannot \w+ the schedule")
    with enter(TenantScope("globex")), refused:
        await getattr(schedule, act)(*given)


async def test_a_tenants_code_neither_makes_nor_lists_others_schedules(
    client: Client, queue: str
) -> None:
    with enter(TenantScope("globex")):
        with pytest.raises(TenancyError, match="globex cannot create the schedule"):
            await client.create_schedule(f"acme/{queue}-2", schedule_of(queue))
        with pytest.raises(TenancyError, match="globex cannot list schedules"):
            await client.list_schedules()


WRONG_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("spread", {"spread": 7200}),
    ("catchup_window", {"catchup_window": 60}),
    ("local_time", {"local_time": "no"}),
    ("extra", {"extra": ["note"]}),
    ("extra", {"extra": {"tenant_id": "acme"}}),
]


@pytest.mark.parametrize(
    ("scheduled", "sentence"),
    [
        (ScheduledJob("test.controlled", "every day"), "five fields"),
        (ScheduledJob("test.controlled", "61 * * * *"), "goes from 0 to 59"),
        (ScheduledJob("test.controlled", "* * * * * *"), "five fields"),
        (ScheduledJob("nope.job", "0 6 1 * *"), "UnknownJob: 'nope.job' is not a job"),
        (ScheduledJob("echo.platform", "0 6 1 * *", local_time=True), "is a platform job"),
        (ScheduledJob("echo.platform", "0 6 1 * *", {"typo": 1}), "typo: there is no such field"),
        (ScheduledJob("test.controlled", "0 8 * * *", local_time=True), "has no period"),
        (ScheduledJob("test.controlled", "0 6 1 * *", {"tenant_id": "acme"}), "names a tenant"),
        (
            ScheduledJob("test.controlled_monthly", "0 6 1 * *", {"period": "2013-04"}),
            "has a period, which",
        ),
        (ScheduledJob("test.controlled", "0 8 * * *", spread=timedelta(days=2)), "spread: "),
        (ScheduledJob("test.controlled", "0 8 * * *", spread=-timedelta(1)), "spread: "),
        (ScheduledJob("test.controlled", "0 8 * * *", max_starts_per_second=0), "max_starts_"),
        (ScheduledJob("test.controlled", "0 6 1 * *", {"typo": 1}), "typo: there is no such field"),
        *(
            (ScheduledJob("test.controlled", "0 6 1 * *", **wrong), f"test.controlled: .*{field} ")
            for field, wrong in WRONG_FIELDS
        ),
    ],
)
async def test_a_declaration_that_cannot_work_is_refused_before_any_is_applied(
    client: Client, scheduled: ScheduledJob, sentence: str
) -> None:
    right = ScheduledJob("echo.fairness", "0 6 1 * *")
    with pytest.raises(ConfigurationError, match=sentence):
        await apply(client, [right, scheduled])
    assert right.id not in [s.id async for s in await client.list_schedules()]


def test_a_job_that_is_scheduled_twice_is_refused() -> None:
    twice = [ScheduledJob("test.controlled", "0 6 1 * *")] * 2
    with pytest.raises(ConfigurationError, match="scheduled twice"):
        check_all(twice)


async def test_what_a_plain_client_changed_is_put_right_and_the_rest_left_untouched(
    client: Client, raw_client: Client
) -> None:
    scheduled = ScheduledJob("test.controlled", "0 6 1 * *")
    await apply(client, [scheduled])
    handle = client.get_schedule_handle(scheduled.id)
    try:
        assert await apply(client, [scheduled]) == {scheduled.id: Applied.UNCHANGED}
        assert (await handle.describe()).info.last_updated_at is None

        def strip(input: ScheduleUpdateInput) -> ScheduleUpdate:
            action = input.description.schedule.action
            assert isinstance(action, ScheduleActionStartWorkflow)
            bare = dataclasses.replace(action, headers={}, priority=Priority())
            return ScheduleUpdate(dataclasses.replace(input.description.schedule, action=bare))

        await raw_client.get_schedule_handle(scheduled.id).update(strip)
        assert await apply(client, [scheduled]) == {scheduled.id: Applied.UPDATED}
        assert await apply(client, [scheduled]) == {scheduled.id: Applied.UNCHANGED}
    finally:
        await handle.delete()


async def test_a_line_that_differs_only_later_is_taken_too(client: Client) -> None:
    scheduled = ScheduledJob("test.controlled", "*/15 * * * *")
    await apply(client, [scheduled])
    handle = client.get_schedule_handle(scheduled.id)
    now = datetime.now(UTC).hour
    hours = ",".join(str((now + hour) % 24) for hour in range(5))  # longer than announced
    changed = dataclasses.replace(scheduled, cron=f"*/15 {hours} * * *")
    try:
        assert await apply(client, [changed]) == {scheduled.id: Applied.UPDATED}
        assert await apply(client, [changed]) == {scheduled.id: Applied.UNCHANGED}
    finally:
        await handle.delete()


async def test_an_applied_schedule_keeps_its_pause_and_takes_the_new_line(client: Client) -> None:
    await apply(client, [ScheduledJob("test.controlled", "0 6 1 * *")])
    handle = client.get_schedule_handle("platform/test.controlled")
    await handle.pause(note="for a test")
    await apply(
        client,
        [ScheduledJob("test.controlled", "0 7 1 * *", catchup_window=timedelta(days=1))],
    )
    described = await handle.describe()
    assert described.schedule.state.paused
    assert described.schedule.state.note == "for a test"
    assert described.schedule.policy.overlap is OVERLAP
    assert described.schedule.policy.catchup_window == timedelta(days=1)
    action = described.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert action.id == "platform/test.controlled/tick"
    assert action.task_queue == "bulk"
    assert action.priority == Priority(priority_key=2, fairness_key="platform")
    await handle.delete()


async def test_a_schedule_of_the_release_before_is_left_untouched(client: Client) -> None:
    """That release sent the line itself; the time it came into force decides what was missed."""
    scheduled = ScheduledJob("test.controlled", "*/20 6-8,20 1 jan-mar *")
    sent = dataclasses.replace(
        scheduled.schedule(),
        spec=ScheduleSpec(cron_expressions=[f"{scheduled.cron} # {scheduled.cron}"]),
    )
    handle = await client.create_schedule(scheduled.id, sent)
    try:
        assert await apply(client, [scheduled]) == {scheduled.id: Applied.UNCHANGED}
    finally:
        await handle.delete()


@pytest.mark.parametrize(
    "changed",
    [
        {"jitter": timedelta(minutes=5)},
        {"time_zone_name": "Asia/Tokyo"},
        {"end_at": datetime(2099, 1, 1, tzinfo=UTC)},
    ],
)
async def test_times_that_were_narrowed_on_the_server_are_put_right(
    client: Client, raw_client: Client, changed: dict[str, Any]
) -> None:
    scheduled = ScheduledJob("test.controlled", "0 6 1 * *")
    await apply(client, [scheduled])
    handle = raw_client.get_schedule_handle(scheduled.id)

    def narrow(input: ScheduleUpdateInput) -> ScheduleUpdate:
        found = input.description.schedule
        spec = dataclasses.replace(found.spec, **changed)
        return ScheduleUpdate(dataclasses.replace(found, spec=spec))

    try:
        await handle.update(narrow)
        assert await apply(client, [scheduled]) == {scheduled.id: Applied.UPDATED}
        assert await apply(client, [scheduled]) == {scheduled.id: Applied.UNCHANGED}
    finally:
        await handle.delete()


DAYS = (datetime.fromisoformat("2013-01-01"), datetime.fromisoformat("2032-01-01"))


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(cron_lines(), min_size=12, max_size=12, unique=True),
    since=st.datetimes(*DAYS, timezones=st.just(UTC)),
)
async def test_the_server_reads_every_line_as_it_is_read_here(
    raw_client: Client, lines: list[str], since: datetime
) -> None:
    until = since + timedelta(days=40)
    action = ScheduleActionStartWorkflow("none", id="none", task_queue="none")
    for text in (*lines, "0 0 29 2 *", "59 23 31 12 *", "0 0 * * 7"):
        line = read_cron(text)
        schedule = Schedule(action=action, spec=ScheduleSpec(calendars=[line.calendar()]))
        handle = await raw_client.create_schedule(f"cron-{uuid.uuid4()}", schedule)
        try:
            spec = (await handle.describe()).schedule.spec
            assert line.is_calendar(spec.calendars[0])
            found = await matching_times(raw_client, handle.id, since, until)
        finally:
            await handle.delete()
        assert (
            found == list(line.times(since, until))[: len(found) if len(found) >= 1_000 else None]
        )


async def matching_times(
    client: Client, schedule_id: str, since: datetime, until: datetime
) -> list[datetime]:
    """The server's error, which names at most a thousand."""
    request = ListScheduleMatchingTimesRequest(namespace="default", schedule_id=schedule_id)
    request.start_time.FromDatetime(since - timedelta(seconds=1))
    request.end_time.FromDatetime(until - timedelta(seconds=1))
    answer = await client.workflow_service.list_schedule_matching_times(request)
    return [time.ToDatetime(tzinfo=UTC) for time in answer.start_time]

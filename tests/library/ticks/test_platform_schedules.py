"""The schedules that features bring, and the application's beside them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.client import Client, ScheduleActionStartWorkflow

from temporal_tenancy import Feature, PlatformSchedule, ScheduledJob, TenancyPlugin
from temporal_tenancy.cli import Application, Login
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.everything import everything
from temporal_tenancy.ticks.schedules import apply, check_all, with_those_of

pytestmark = pytest.mark.schedules

# As an application had to declare them before features brought them. Schedules on a server are
# compared with these, so what an upgrade finds there must not differ.
DECLARED_BEFORE = {
    "ticks.reconcile": ScheduledJob("ticks.reconcile", "*/15 * * * *"),
    "dead_letters.sweep": ScheduledJob("dead_letters.sweep", "* * * * *"),
    "suspensions.release": ScheduledJob(
        "suspensions.release", "* * * * *", catchup_window=timedelta(minutes=1)
    ),
}


def by_job(schedules: object) -> dict[str, ScheduledJob]:
    assert isinstance(schedules, list)
    return {scheduled.job: scheduled for scheduled in schedules}


def test_the_librarys_features_bring_the_schedules_that_applications_declared() -> None:
    assert by_job(with_those_of([], everything())) == DECLARED_BEFORE
    schedules = with_those_of([], TenancyPlugin().features)
    check_all(schedules)
    for scheduled in schedules:
        assert scheduled.schedule() == DECLARED_BEFORE[scheduled.job].schedule()


async def test_a_server_on_which_an_application_declared_them_is_left_as_it_is(
    app: Client,
) -> None:
    await apply(app, list(DECLARED_BEFORE.values()))
    done = await apply(app, with_those_of([], everything()))
    assert set(done.values()) == {"unchanged"}


async def test_they_run_on_the_queue_that_the_plugin_names(app: Client) -> None:
    plugin = TenancyPlugin(platform_queue="operations")
    await apply(app, with_those_of([], plugin.features))
    for job in DECLARED_BEFORE:
        described = await app.get_schedule_handle(f"platform/{job}").describe()
        action = described.schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        assert action.task_queue == "operations"


def test_an_applications_own_declaration_replaces_a_features_but_for_its_queue() -> None:
    own = ScheduledJob("ticks.reconcile", "0 * * * *")
    merged = by_job(with_those_of([own], everything(queue="operations")))
    assert (merged["ticks.reconcile"].cron, merged["ticks.reconcile"].queue) == (
        "0 * * * *",
        "operations",
    )
    named = ScheduledJob("ticks.reconcile", "0 * * * *", queue="mine")
    assert by_job(with_those_of([named], everything(queue="operations")))[
        "ticks.reconcile"
    ].queue == ("mine")


def test_a_feature_of_the_application_brings_its_own() -> None:
    feature = Feature("tidying", schedules=(PlatformSchedule("tidy.up", "0 3 * * *", "night"),))
    plugin = TenancyPlugin(features=[feature])
    assert plugin.schedules == feature.schedules
    nowhere = Login("a setting")
    application = Application(
        connect=lambda database: pytest.fail("nothing connects"),
        database=lambda: pytest.fail("nothing connects"),
        tenant=nowhere,
        platform=nowhere,
        relay=nowhere,
        owner=nowhere,
        features=plugin.features,
    )
    expected = ScheduledJob("tidy.up", "0 3 * * *", queue="night")
    assert application.every_schedule == application.platform_schedules == [expected]


def test_isolation_alone_schedules_nothing() -> None:
    assert with_those_of([], TenancyPlugin(features=[]).features) == []


def test_a_tenants_job_runs_on_no_other_queue_than_its_own() -> None:
    with pytest.raises(ConfigurationError, match="runs on its own queue, bulk"):
        ScheduledJob("test.controlled", "0 3 * * *", queue="other").check()

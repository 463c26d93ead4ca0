"""What one tenant, a dead worker and a second deployment must not do to a release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.cli import deployments as commands
from temporal_tenancy.cli._deployment_checks import deployment_checks
from temporal_tenancy.cli._server_access import as_platform
from temporal_tenancy.cli.answers import Answer
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.deployments import (
    Bounds,
    Cohort,
    Release,
    Releases,
    VersionIncomplete,
    VersionRefused,
    versioned,
)
from temporal_tenancy.deployments import versions as server
from temporal_tenancy.deployments.comparison import compare
from temporal_tenancy.deployments.watch import Watch, WatchInput, watch_id
from temporal_tenancy.outbox import Relay
from temporal_tenancy.postgres.database import Database
from tests.fixtures.app import app_worker
from tests.fixtures.jobs.fan_out_control import Control
from tests.fixtures.jobs.fan_out_jobs import ControlledInput
from tests.fixtures.relay import ask, running
from tests.library.deployments.test_versioned_workers import (
    CANARIES,
    JOB,
    NEW,
    OLD,
    QUEUE,
    app,
    many,
    program,
    shown,
    sink,
    until,
    until_on,
    until_polled,
    version_of,
    workers,
)

pytestmark = pytest.mark.schedules

__all__ = ["app", "many", "program", "sink"]  # fixtures

OTHER = WorkerDeploymentVersion("app", "v3")
ONE, TWO = WorkerDeploymentVersion("svc", "s1"), WorkerDeploymentVersion("svc", "s2")
GONE = timedelta(0)  # so that no worker has polled lately enough
GONE_VERSION = WorkerDeploymentVersion("gone", "v2")  # the server does not know it
SELDOM = timedelta(hours=1)  # the watch looks once


async def ramped(build: str, tenants: str, deployment: str = "app", **changed: Any) -> Answer:
    arguments: dict[str, Any] = {
        "share": None,
        "max_failures": "10%",
        "max_slowdown": 3.0,
        "min_runs": 5,
        "every": SELDOM,
    }
    return await commands.ramp(
        build, tenants=tenants, deployment=deployment, **{**arguments, **changed}
    )


async def run(app: Client, tenant: str, key: str) -> str:
    """Runs a tenant's job, and returns the version that it ran on."""
    workflow_id = f"{tenant}/{JOB}/{key}"
    handle = await app.start_workflow(
        JOB, ControlledInput(tenant_id=tenant), id=workflow_id, task_queue=QUEUE
    )
    with suppress(WorkflowFailureError):
        await handle.result()
    return await version_of(app, workflow_id)


async def test_a_release_of_one_deployment_leaves_the_others_tenants_runs_alone(
    app: Client,
    database: Database,
    many: None,
    control: Control,
    program: None,
    make_relay: Callable[..., Relay],
) -> None:
    async with (
        workers(app, OLD),
        app_worker(app, task_queue="other", deployment_config=versioned("svc", "s1")),
        app_worker(app, task_queue="other", deployment_config=versioned("svc", "s2")),
    ):
        await until_polled(app, ONE, "other")
        await server.make_current(app, ONE, by="a test")
        await until_polled(app, TWO, "other")
        answer = await ramped("s2", "t000", "svc")
        assert answer.document["queues"] == ["other"]
        assert await run(app, "t000", "by-hand") == "v1"
        await ask(database, "t000", JOB, key="by-relay")
        async with running(make_relay()):
            await until_on(app, f"t000/{JOB}/by-relay", OLD)
        # A row of an earlier release names no queues: the server refuses the pin.
        await Releases(database).ramp(
            TWO,
            Cohort(frozenset({"t000"})),
            Bounds(),
            directory=ControlPlaneDirectory(database),
            by="ada",
        )
        assert await run(app, "t000", "of-an-earlier-row") == "v1"


async def test_what_ramps_is_said_and_what_was_taken_back_is_passed_over(
    app: Client, database: Database, many: None, control: Control, program: None
) -> None:
    control.failing = {"t000"}
    releases = Releases(database)
    v3 = versioned("app", "v3")
    async with workers(app, OLD, NEW), app_worker(app, deployment_config=v3):
        await until_polled(app, OTHER)
        listed = (await commands.show_all("app")).document["deployments"][0]["versions"]
        assert {each["build_id"]: each["drained"] for each in listed} == dict.fromkeys(
            ("v1", "v2", "v3"), False
        )
        assert all(each["workers"] == 1 and not each["unserved"] for each in listed)
        for late in (
            ramped("v2", "t000", polled_within=GONE),
            commands.promote("v2", deployment="app", polled_within=GONE),
        ):
            with pytest.raises(VersionIncomplete, match="v2 polls the task queue bulk for"):
                await late
        assert await releases.all() == []

        [check] = await deployment_checks(app)
        assert check.verdict == "ok"
        [check] = await deployment_checks(app, polled_within=GONE)
        assert "no worker of version v1 of app, which is current, polls" in check.message

        await ramped("v2", ",".join(CANARIES))
        # One customer, with as many failures as it likes.
        for number in range(5):
            await run(app, "t000", f"bad-{number}")
        release = await releases.find(NEW)
        assert release is not None

        async def has_seen(ramping: Release = release) -> bool:
            with as_platform(database):
                return (await compare(app, ramping))[-1].new_failed == 5

        await until(has_seen)
        with as_platform(database):
            [found] = await compare(app, release)
            fault = await Watch(())._fault(app, release)
            gone = await Watch((), polled_within=GONE)._fault(app, release)
        assert (found.new_tenants, found.new_bad) == (1, 1)
        assert fault is None
        assert gone == (
            "none of its workers polls the task queue bulk for workflows and activities any more."
        )

        # Runs of an earlier release of the version do not count in the next one.
        grown = await ramped("v2", ",".join((*CANARIES, "t005")))
        assert "This replaces its release to t000, t001, t002 and 2 more" in shown(grown)
        assert grown.document["replaced"]["tenants"] == list(CANARIES)
        await commands.rollback("v2", terminate=False, reason="a try", deployment="app")
        anew = shown(await ramped("v2", "t001,t002", min_tenants=3))
        assert "It begins anew: its release to t000, t001, t002 and 3 more was rolled back" in anew
        assert "once runs of 2 tenants fail, not of 3: it has no more that may run" in anew
        release = await releases.find(NEW)
        assert release is not None
        with as_platform(database):
            [found] = await compare(app, release)
        assert found.new_ended == 0

        promoted = await commands.promote("v3", deployment="app")
        assert promoted.document["ended"] == ["v2"]
        assert "The release of v2 has ended" in shown(promoted)
        assert await run(app, "t001", "after") == "v3"
        with pytest.raises(VersionIncomplete, match="no worker of version v1 polls"):
            await commands.rollback(
                "v3", terminate=False, reason=None, deployment="app", polled_within=GONE
            )
        # An older version may ramp again, and everybody is told.
        await ramped("v2", "t001")
        back = await commands.rollback("v3", terminate=False, reason="bad", deployment="app")
        assert "New runs of t001 start on v2, which still ramps" in shown(back)
        assert "Those of all other tenants start on v1" in shown(back)
        taken = await releases.find(OTHER)
        assert taken is not None
        assert (taken.state, taken.reason) == (ReleaseState.ROLLED_BACK, "bad")
        with pytest.raises(VersionRefused, match="v3 was rolled back itself"):
            await commands.rollback("v1", terminate=False, reason=None, deployment="app")


async def test_a_watch_that_fails_is_shown_and_a_deployment_that_is_listed_late_is_found(
    app: Client,
    database: Database,
    many: None,
    control: Control,
    program: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with workers(app, OLD, NEW):
        cohort, directory = Cohort(frozenset({"t000"})), ControlPlaneDirectory(database)
        for version in (NEW, GONE_VERSION):
            queues = [version.deployment_name]  # so that they do not meet
            await Releases(database).ramp(
                version, cohort, Bounds(), directory=directory, by="ada", queues=queues
            )
        assert "not watched: ramp it again" in shown(await commands.show_all("app"))
        await app.start_workflow(
            "deployments.watch",
            WatchInput(deployment=GONE_VERSION.deployment_name, build_id="v2", every=SELDOM),
            id=watch_id(NEW),
            task_queue=QUEUE,
        )

        async def is_shown() -> bool:
            return "ramping to t000, its watch fails: " in shown(await commands.show_all("app"))

        await until(is_shown)

        first: list[list[str]] = [[]]
        names_of_deployments = server.names_of_deployments

        async def late(client: Client) -> Sequence[str]:
            return first.pop() if first else await names_of_deployments(client)

        monkeypatch.setattr(server, "names_of_deployments", late)
        monkeypatch.setattr(server, "_LISTED_WITHIN", 0.0)
        assert (await server.deployment_of(app)).name == "app"

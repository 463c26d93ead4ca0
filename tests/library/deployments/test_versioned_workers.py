"""Versioned workers on a real server: who runs on which version, and what halts a release."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import typer
from rich.console import Console
from temporalio.client import (
    Client,
    CountWorkflowsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowExecutionCount,
    WorkflowFailureError,
)
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.cli import Application, Login, _pending
from temporal_tenancy.cli import deployments as commands
from temporal_tenancy.cli._deployment_checks import deployment_checks
from temporal_tenancy.cli._pending import waits_for
from temporal_tenancy.cli.answers import Answer
from temporal_tenancy.cli.program import Program, use_program
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.dead_letters.alerts import Alert
from temporal_tenancy.deployments import (
    Bounds,
    Cohort,
    DeploymentUnknown,
    Releases,
    ReleaseUnknown,
    VersionIncomplete,
    VersionRefused,
    VersionUnknown,
    _runs,
    deployments,
    versioned,
)
from temporal_tenancy.deployments import versions as server
from temporal_tenancy.deployments.polling import unserved
from temporal_tenancy.deployments.watch import WatchInput, watch_id
from temporal_tenancy.everything import everything
from temporal_tenancy.outbox import Relay
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult
from temporal_tenancy.ticks.fan_out._activities import look_at_runs
from temporal_tenancy.ticks.fan_out.payloads import LookAtRuns, Outside
from tests.fixtures.app import app_plugin, app_worker, rows_of
from tests.fixtures.jobs import broken_build
from tests.fixtures.jobs.fan_out_control import Control
from tests.fixtures.jobs.fan_out_jobs import ControlledInput
from tests.fixtures.log_lines import LogLines
from tests.fixtures.relay import ask, running

pytestmark = pytest.mark.schedules

JOB = "test.controlled"
QUEUE = "bulk"
OFTEN = timedelta(seconds=0.2)  # the watch looks
OLD = WorkerDeploymentVersion("app", "v1")
NEW = WorkerDeploymentVersion("app", "v2")
NEW_ROW = (NEW.deployment_name, NEW.build_id)  # of the ledger
CANARIES = ("t000", "t001", "t002", "t003", "t004")
OTHERS = ("t005", "t006", "t007", "t008", "t009")


class Sink:
    """Keeps the alerts that it gets."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def app(
    temporal: TemporalDevServer, database: Database, namespace: str, sink: Sink
) -> Client:
    """A client that reads the releases anew for each start."""
    plugin = app_plugin(database, deployments(database, [sink], seconds=0))
    return await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])


@pytest.fixture
async def many(tenants: Tenants) -> None:
    for tenant in (*CANARIES, *OTHERS):
        await tenants.add(tenant, tenant, plan="enterprise")


@pytest.fixture
def program(app: Client, database: Database) -> Iterator[None]:
    """Runs commands of an application with this client and database."""
    with program_of(app, database):
        yield


@contextmanager
def program_of(client: Client, database: Database) -> Iterator[None]:
    """Runs commands of an application with a client and a database, which outlive them."""

    class Kept:
        """The test's database."""

        def __getattr__(self, name: str) -> Any:
            return getattr(database, name)

        async def dispose(self) -> None: ...

    async def connect(_: Database | None) -> Client:
        return client

    login = Login("a variable", "postgresql://nobody@nowhere/nothing")
    application = Application(
        connect=connect,
        database=lambda: Kept(),  # type: ignore[arg-type, return-value]
        tenant=login,
        platform=login,
        relay=login,
        owner=login,
        features=everything(queue=QUEUE),
    )
    with use_program(Program(load=lambda: application)):
        yield


@asynccontextmanager
async def workers(
    app: Client, *versions: WorkerDeploymentVersion, **of_new: Any
) -> AsyncIterator[None]:
    """Runs a worker of each version; the first becomes the current version."""
    async with AsyncExitStack() as stack:
        for version in versions:
            options = of_new if version == NEW else {}
            config = versioned(version.deployment_name, version.build_id)
            await stack.enter_async_context(app_worker(app, deployment_config=config, **options))
        await until_current(app, versions[0])
        for version in versions[1:]:
            await until_polled(app, version)
        await until_named(app, versions[0].deployment_name)
        yield


async def until_named(client: Client, deployment: str) -> None:
    """Waits until the server lists the deployment: on PostgreSQL the list lags behind."""

    async def named() -> bool:
        return deployment in await server.names_of_deployments(client)

    await until(named)


async def until_current(client: Client, version: WorkerDeploymentVersion) -> None:
    await until_polled(client, version)
    await server.make_current(client, version, by="a test")


def shown(answer: Answer) -> str:
    """Returns what a person sees of a command's answer, on a wide terminal."""
    console = Console(width=250, file=io.StringIO())
    with console.capture() as text:
        console.print(answer.text)
    return text.get()


async def until(found: Callable[[], Awaitable[bool]], *, patience: float = 60.0) -> None:
    """Waits for what the server tells nobody: it is asked again and again."""
    async with asyncio.timeout(patience):
        while not await found():  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.05)


async def queues_of(client: Client, version: WorkerDeploymentVersion) -> frozenset[str]:
    """Returns the queues of a version; none before the server knows it."""
    try:
        return await server.queues_of(client, version)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return frozenset()


async def until_polled(
    client: Client, version: WorkerDeploymentVersion, queue: str = QUEUE
) -> None:
    async def polled() -> bool:
        return queue in await queues_of(client, version)

    await until(polled)


async def until_on(client: Client, workflow_id: str, version: WorkerDeploymentVersion) -> None:
    async def is_on() -> bool:
        try:
            return await version_of(client, workflow_id) == version.build_id
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False  # it has not started

    await until(is_on)


async def version_of(client: Client, workflow_id: str) -> str:
    described = await client.get_workflow_handle(workflow_id).describe()
    build_id: str = described.raw_info.versioning_info.deployment_version.build_id
    return build_id


async def fan_out(client: Client, tick: str, run: str = "1") -> FanOutResult:
    return await client.execute_workflow(
        FanOut.run,
        FanOutInput(job=JOB, tick=tick),
        id=f"platform/{JOB}/tick-{tick}-{run}",
        task_queue=QUEUE,
    )


async def ramp(database: Database, cohort: Cohort, **bounds: Any) -> None:
    from temporal_tenancy.control_plane.directory import ControlPlaneDirectory

    directory = ControlPlaneDirectory(database)
    await Releases(database).ramp(NEW, cohort, Bounds(**bounds), directory=directory, by="ada")


async def test_tenants_runs_keep_their_version_and_short_platform_runs_do_not(
    app: Client, database: Database, many: None, control: Control
) -> None:
    control.holding = {"t000"}
    async with workers(app, OLD, NEW):
        held = await app.start_workflow(
            JOB, ControlledInput(tenant_id="t000"), id=f"t000/{JOB}/held", task_queue=QUEUE
        )
        await ramp(database, Cohort(share=1.0))
        watch = await app.start_workflow(
            "deployments.watch",
            WatchInput(deployment="app", build_id="v2", every=OFTEN),
            id=watch_id(NEW),
            task_queue=QUEUE,
        )
        await until_on(app, watch.id, OLD)
        await server.make_current(app, NEW, by="a test")
        await until_on(app, watch.id, NEW)
        control.released.set()
        await held.result()
        assert await version_of(app, held.id) == "v1"
        behavior = (await held.describe()).raw_info.versioning_info.behavior
        assert behavior == VersioningBehavior.PINNED.value
        await Releases(database).end(NEW, ReleaseState.PROMOTED, reason=None, by="ada")
        assert (await watch.result())["state"] == ReleaseState.PROMOTED


async def test_a_pinned_run_whose_version_has_no_worker_is_explained(
    app: Client,
    many: None,
    control: Control,
    program: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control.holding = {"t000"}
    async with workers(app, OLD, NEW):
        held = await app.start_workflow(
            JOB, ControlledInput(tenant_id="t000"), id=f"t000/{JOB}/held", task_queue=QUEUE
        )
        await until_on(app, held.id, OLD)
        await server.make_current(app, NEW, by="a test")
        gone = re.compile(
            r"no worker of its version v1 polls the task queue bulk for workflows and activities\. "
            r"Start the workers of that version\."
        )
        described = await held.describe()
        assert not [each for each in await waits_for(app, described) if gone.fullmatch(each)]
        monkeypatch.setattr(_pending, "of_version", partial(unserved, within=timedelta(0)))
        assert [each for each in await waits_for(app, described) if gone.fullmatch(each)]
        control.released.set()
        await held.result()


async def test_a_bad_build_runs_for_its_tenants_alone_is_halted_and_they_catch_up_on_the_old_one(
    app: Client,
    database: Database,
    many: None,
    control: Control,
    program: None,
    sink: Sink,
    log_lines: LogLines,
) -> None:
    broken_build.runs.clear()
    async with workers(app, OLD, NEW, activities=broken_build.ACTIVITIES):
        ramped = await commands.ramp(
            "v2",
            tenants=",".join(CANARIES),
            share=None,
            max_failures="20%",
            max_slowdown=3.0,
            min_runs=5,
            deployment=None,
            every=OFTEN,
        )
        assert ramped.document["state"] == "ramping"
        assert "all others stay on v1" in shown(ramped)
        before = await commands.show_all(None)
        assert "ramping to t000, t001, t002 and 2 more" in shown(before)
        assert "not watched" not in shown(before)
        result = await fan_out(app, "a")
        assert (result.succeeded, result.failed) == (5, 5)
        assert set(broken_build.runs) == set(CANARIES)
        assert set(control.runs) == set(OTHERS)
        rows = {
            row.tenant_id: (row.deployment, row.build_id)
            for row in await rows_of(database, JOB, "a")
        }
        assert rows == dict.fromkeys(CANARIES, NEW_ROW) | dict.fromkeys(OTHERS, (None, None))
        assert await version_of(app, f"platform/{JOB}/tick-a-1") == "v1"
        watched = await app.get_workflow_handle(watch_id(NEW)).result()
        assert watched["state"] == "halted"
        [alert] = sink.alerts
        assert (
            "The release of version v2 to t000, t001, t002 and 2 more was halted" in alert.summary
        )
        answer = await commands.show_all(None)
        assert "halted, had t000, t001, t002 and 2 more" in (text := shown(answer))
        for command in (
            "ticks catch-up --wait",
            "dead-letters replay --status open --newer-than 1h",
        ):
            assert command in text
        assert "New runs start on v1 again. What to do about v2:" in text
        line = log_lines.one("release.halted")
        assert line["next"][0] == "deployments rollback v2 --deployment app --terminate"
        assert line["next"][1] == "ticks catch-up --wait"
        listed = answer.document
        [app_document] = listed["deployments"]
        [release] = [v["release"] for v in app_document["versions"] if v["build_id"] == "v2"]
        assert (release["state"], release["build_id"]) == ("halted", "v2")
        # Whichever was seen first: the ledger's runs of the job, or the server's of all jobs.
        assert re.match(
            "5 of 5 runs of .* failed, of 5 of 5 tenants, and on the other versions 0 of ",
            release["reason"],
        )
        caught_up = await fan_out(app, "a", run="2")
        assert (caught_up.succeeded, caught_up.already, caught_up.failed) == (5, 5, 0)
        assert await version_of(app, f"t000/{JOB}/a") == "v1"


class EndsMore(Interceptor):
    """Lets further runs end once the server was asked to count runs."""

    def __init__(self, more: Callable[[], Awaitable[None]]) -> None:
        self.more = more

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        more = self.more

        class Hook(OutboundInterceptor):
            async def count_workflows(self, input: CountWorkflowsInput) -> WorkflowExecutionCount:
                await more()
                return await super().count_workflows(input)

        return Hook(next)


@pytest.mark.parametrize("page", [200, 2], ids=["all-in-one-answer", "several-answers"])
async def test_runs_that_end_between_two_answers_of_the_server_are_in_neither(
    app: Client,
    temporal: TemporalDevServer,
    many: None,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
) -> None:
    monkeypatch.setattr(_runs, "PAGE", page)
    began = datetime.now(UTC) - timedelta(minutes=1)
    first, later = CANARIES[:2], list(CANARIES[2:])

    async def end(*tenants: str) -> None:
        for tenant in tenants:
            with pytest.raises(WorkflowFailureError):
                await app.execute_workflow(
                    JOB,
                    ControlledInput(tenant_id=tenant),
                    id=f"{tenant}/{JOB}/by-hand",
                    task_queue=QUEUE,
                )
            ended = f"WorkflowId = '{tenant}/{JOB}/by-hand' AND ExecutionStatus = 'Failed'"

            async def listed(query: str = ended) -> bool:
                return (await app.count_workflows(query)).count == 1

            await until(listed)

    async def more() -> None:
        await end(*later)
        later.clear()

    asking = await Client.connect(
        temporal.address, namespace=app.namespace, interceptors=[EndsMore(more)]
    )
    async with workers(app, NEW, activities=broken_build.ACTIVITIES):
        await end(*first)
        found = await _runs.ended_runs(asking, NEW, began)
        assert found == _runs.Ended(2, 2, frozenset(first), frozenset(first), frozenset({JOB}))
        await more()
        everything_now = frozenset(CANARIES)
        found = await _runs.ended_runs(asking, NEW, began)
        assert found == _runs.Ended(5, 5, everything_now, everything_now, frozenset({JOB}))


async def test_starts_by_hand_and_by_a_relay_follow_a_release_a_promotion_and_a_rollback(
    app: Client,
    database: Database,
    many: None,
    control: Control,
    program: None,
    make_relay: Callable[..., Relay],
) -> None:
    control.holding = {"t000"}
    async with workers(app, OLD, NEW):
        await ramp(database, Cohort(frozenset(CANARIES)))
        for tenant, build in (("t001", "v2"), ("t009", "v1")):
            await app.execute_workflow(
                JOB,
                ControlledInput(tenant_id=tenant),
                id=f"{tenant}/{JOB}/by-hand",
                task_queue=QUEUE,
            )
            assert await version_of(app, f"{tenant}/{JOB}/by-hand") == build
        for tenant in ("t002", "t009"):
            await ask(database, tenant, JOB, key="by-relay")
        async with running(make_relay()):
            await until_on(app, f"t002/{JOB}/by-relay", NEW)
            await until_on(app, f"t009/{JOB}/by-relay", OLD)
        promoted = await commands.promote("v2", deployment=None)
        assert promoted.document["before"] == "v1"
        assert promoted.document["release"]["state"] == "promoted"
        held = await app.start_workflow(
            JOB, ControlledInput(tenant_id="t000"), id=f"t000/{JOB}/held", task_queue=QUEUE
        )
        await until_listed(app, 1)
        back = await commands.rollback("v2", terminate=True, reason="slow", deployment=None)
        assert (back.document["current"], back.document["terminated"]) == ("v1", 1)
        with pytest.raises(WorkflowFailureError):
            await held.result()
        checks = await deployment_checks(app)
        assert [(check.verdict, check.message) for check in checks] == [("ok", "current: app v1.")]


async def until_listed(client: Client, count: int) -> None:
    """Waits until the server lists so many open runs on the new version: the list lags behind."""

    async def listed() -> bool:
        query = f"{server.visibility_query(NEW)} AND ExecutionStatus = 'Running'"
        return (await client.count_workflows(query)).count == count

    await until(listed)


async def test_what_is_not_possible_is_refused_with_one_sentence(
    app: Client, database: Database, many: None, control: Control, program: None
) -> None:
    async def ramped(build: str, **changed: Any) -> str:
        arguments: dict[str, Any] = {
            "tenants": "t000",
            "share": None,
            "max_failures": "10%",
            "max_slowdown": 3.0,
            "min_runs": 5,
            "deployment": None,
        }
        with pytest.raises((TenancyError, typer.BadParameter)) as refused:
            await commands.ramp(build, **{**arguments, **changed})
        return f"{type(refused.value).__name__}: {refused.value}"

    assert "no worker in the namespace" in await ramped("v2")
    async with workers(app, OLD, NEW):
        assert f"{VersionUnknown.__name__}: the deployment app has no version 'v9'" in await ramped(
            "v9"
        )
        assert f"{DeploymentUnknown.__name__}: there is no worker deployment 'ap'" in (
            await ramped("v2", deployment="ap")
        )
        assert "is the current version of app" in (said := await ramped("v1"))
        assert said.startswith(VersionRefused.__name__)
        assert "at most 100 %, and this is 150 %" in await ramped("v2", tenants=None, share="150%")
        assert "such as" in await ramped("v2", tenants=None, share="many")
        assert "or a part of all" in await ramped("v2", share="1%")
        assert "TenantUnknown" in await ramped("v2", tenants="nobody")
        assert await Releases(database).all() == []
        with pytest.raises(ReleaseUnknown, match="neither the current version"):
            await commands.rollback("v2", terminate=False, reason=None, deployment=None)
        with pytest.raises(TenancyError, match="no version of app was current before"):
            await commands.rollback("v1", terminate=False, reason=None, deployment=None)
        async with app_worker(app, task_queue="other", deployment_config=versioned("app", "v1")):
            await until_polled(app, OLD, "other")
            assert f"{VersionIncomplete.__name__}: no worker of version v2" in await ramped("v2")


async def test_a_run_that_the_server_no_longer_has_does_not_hide_the_others_outcomes(
    app: Client, many: None, control: Control, program: None
) -> None:
    async with app_worker(app):  # unversioned, as is the default
        await fan_out(app, "a")
    assert await deployment_checks(app) == []
    assert (await commands.show_all(None)).document["deployments"] == []
    tenants = {"t000": "a", "t001": "never"}
    runs = [
        Outside(tenant_id=tenant, workflow_id=f"{tenant}/{JOB}/{tick}", build_id="v2")
        for tenant, tick in tenants.items()
    ]
    found = await ActivityEnvironment(client=app).run(look_at_runs, LookAtRuns(runs=runs))
    outcomes = {each.tenant_id: (each.state, each.error_type) for each in found.outcomes}
    assert outcomes == {"t000": ("succeeded", None), "t001": ("failed", "RunGone")}

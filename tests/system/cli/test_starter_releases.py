"""docs/how-to/deploy-by-tenant.md, walked on workers of three builds."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from dev.sample_data.load import make_up_tenants
from saas.queues import Queue
from temporal_tenancy.deployments import versions as server
from temporal_tenancy.deployments.watch import NAME, WatchInput, watch_id
from temporal_tenancy.postgres.database import Database
from tests.fixtures.app import states_of
from tests.fixtures.starter import Said, Starter
from tests.fixtures.worker_process import PATIENCE, StartWorker
from tests.system.cli.bad_build import FAILS, HANGS

pytestmark = pytest.mark.schedules

DEPLOYMENT = "saas"
BAD = "tests.system.cli.bad_build"
OFTEN = timedelta(seconds=0.2)  # the watch looks
TICK = "2013-01"


def version(build: str) -> WorkerDeploymentVersion:
    return WorkerDeploymentVersion(DEPLOYMENT, build)


async def build(start: StartWorker, client: Client, build_id: str, module: str = "worker") -> None:
    """Starts a worker of a build, and waits until the server knows what it polls."""
    variables = {"WORKER_DEPLOYMENT_NAME": DEPLOYMENT, "WORKER_BUILD_ID": build_id}
    await start(module=module, **variables).until_ready()
    async with asyncio.timeout(PATIENCE):
        while len(await polled(client, build_id)) < 2 * len(Queue):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


async def polled(client: Client, build_id: str) -> frozenset[Any]:
    try:
        return await server.polled_by(client, version(build_id))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return frozenset()


async def watch_often(client: Client, build_id: str) -> None:
    """Replaces the watch that a release has by one that looks more often."""
    await client.get_workflow_handle(watch_id(version(build_id))).terminate()
    watched = WatchInput(deployment=DEPLOYMENT, build_id=build_id, every=OFTEN)
    await client.start_workflow(
        NAME, watched, id=watch_id(version(build_id)), task_queue=Queue.DEFAULT
    )


async def build_of(client: Client, workflow_id: str) -> str:
    described = await client.get_workflow_handle(workflow_id).describe()
    found: str = described.raw_info.versioning_info.deployment_version.build_id
    return found


def done(said: Said) -> Any:
    assert said.code == 0, said
    return said.document


def refused(said: Said, kind: str) -> str:
    assert said.code == 2, said
    assert said.err.startswith(f"{kind}: "), said.err
    return said.err


async def test_a_release_is_refused_halted_caught_up_promoted_and_taken_back(
    saas: Client,
    database: Database,
    starter: Starter,
    start_worker: StartWorker,
) -> None:
    first, second, third, fourth = tenants = await make_up_tenants(database, 4, events=1)

    async def deployments(*arguments: str) -> Said:
        return await starter("deployments", *arguments, "--json")

    await build(start_worker, saas, "v1")
    promoted = done(await deployments("promote", "v1"))
    assert (promoted["before"], promoted["current"]) == (None, "v1")
    await build(start_worker, saas, "v2", BAD)
    await build(start_worker, saas, "v3")
    cohort = f"{first},{second}"
    done(await deployments("ramp", "v2", "--tenants", cohort, "--min-runs", "2"))
    await watch_often(saas, "v2")

    both = refused(
        await starter("deployments", "ramp", "v3", "--tenants", f"{second},{third}"),
        "TenantInTwoCohorts",
    )
    assert both == (
        f"TenantInTwoCohorts: {second} gets version v2 of saas already. End that release first, or "
        "leave the tenant out.\n"
    )
    share = refused(await starter("deployments", "ramp", "v3", "--share", "150%"), "UsageError")
    doubled = ("--tenants", third, "--share", "1%")
    assert "not both" in refused(await starter("deployments", "ramp", "v3", *doubled), "UsageError")
    assert "not both" not in refused(await starter("deployments", "ramp", "v3"), "UsageError")
    assert "at most 100 %, and this is 150 %" in share
    for arguments in (("ramp", "v9", "--tenants", third), ("promote", "v9"), ("rollback", "v9")):
        unknown = refused(await starter("deployments", *arguments), "VersionUnknown")
        assert "the deployment saas has no version 'v9'" in unknown

    hanging = f"{first}/{HANGS}/2013-01-01"
    done(await starter("run", HANGS, "--tenant", first, "--key", "2013-01-01", "--json"))
    failed = await starter("run", FAILS, "--tenant", first, "--key", "2013-02", "--wait", "--json")
    assert failed.code == 1
    fan_out = await starter("fan-out", FAILS, "--tick", TICK, "--wait", "--json")
    assert (fan_out.code, fan_out.document["succeeded"], fan_out.document["failed"]) == (1, 2, 2)
    watched = await saas.get_workflow_handle(watch_id(version("v2"))).result()
    assert watched["state"] == "halted"

    commands = await next_of(starter, "v2")
    [ended, catch_up, replay] = commands
    assert (await follow(starter, ended))["terminated"] == 1
    await sweep(saas)  # as a schedule does every minute
    assert (await follow(starter, catch_up))["succeeded"] == 2
    assert (await follow(starter, f"{replay} --wait"))["replayed"] == 2
    assert await states_of(database, FAILS, TICK) == dict.fromkeys(tenants, "succeeded")
    for workflow_id in (f"{first}/{FAILS}/{TICK}", f"{first}/{FAILS}/2013-02", hanging):
        assert await build_of(saas, workflow_id) == "v1"

    done(await deployments("ramp", "v3", "--tenants", f"{third},{fourth}"))
    promoted = done(await deployments("promote", "v3"))
    assert (promoted["before"], promoted["release"]["state"]) == ("v1", "promoted")
    back = done(await deployments("rollback", "v3", "--terminate"))
    assert (back["current"], back["terminated"]) == ("v1", 0)
    listed = done(await deployments("list"))
    [found] = listed["deployments"]
    states = {
        each["build_id"]: each["release"] and each["release"]["state"] for each in found["versions"]
    }
    assert (found["current"], states) == (
        "v1",
        {"v1": None, "v2": "rolled_back", "v3": "rolled_back"},
    )


async def next_of(starter: Starter, build_id: str) -> Sequence[str]:
    """Returns the commands that `deployments list` gives after a halt."""
    listed = done(await starter("deployments", "list", "--json"))
    [found] = listed["deployments"]
    [release] = [each["release"] for each in found["versions"] if each["build_id"] == build_id]
    assert release["state"] == "halted"
    return [each["command"] for each in release["next"]]


async def follow(starter: Starter, command: str) -> Any:
    """Runs a command as it is printed, and returns its answer."""
    program, *arguments = shlex.split(command)
    assert program == "starter.py"
    return done(await starter(*arguments, "--json"))


async def sweep(client: Client) -> None:
    """Finds the dead letters of runs that could not write one."""
    await client.execute_workflow(
        "dead_letters.sweep", id="platform/dead_letters.sweep/by-a-test", task_queue=Queue.DEFAULT
    )

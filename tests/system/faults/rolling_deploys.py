"""Rolling deploys under load, 20 rounds. Not part of the suite: `make deploys` runs it.

Each round runs a month's billing over all tenants. In the middle the next build becomes current, or
is released to some tenants first, and workers of the present build are killed or told to end, and
replaced. Both builds work side by side. Afterwards nothing is lost and nothing is doubled.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.deployments import Bounds, Cohort, Releases
from temporal_tenancy.deployments.versions import make_current, queues_of
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from tests.fixtures.worker_process import WorkerProcess
from tests.system.faults.checker import Tick, problems
from tests.system.faults.servers import Servers, running_servers
from tests.system.faults.usage import load_month

ROUNDS = int(os.environ.get("ROUNDS", "20"))
JOB = "billing.cycle"
QUEUE = "bulk"
DEPLOYMENT = "saas"
FIRST = 4  # tenants that a release gives a build first
MANY = Bounds(max_failures=1.0, max_slowdown=1_000.0, min_runs=1_000)  # halts nothing here


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    directory: Path = tmp_path_factory.mktemp("rolling")
    async with running_servers(directory) as running:
        yield running


async def worker_of(servers: Servers, version: WorkerDeploymentVersion) -> WorkerProcess:
    """Starts a worker of a version, and waits until the server knows it."""
    environ = servers.environ | {
        "WORKER_DEPLOYMENT_NAME": version.deployment_name,
        "WORKER_BUILD_ID": version.build_id,
        "WORKER_GRACE_SECONDS": "5",
    }
    worker = WorkerProcess(["-m", servers.module, "--queue", QUEUE], servers.directory, environ)
    servers.workers.append(worker)
    await worker.until_ready()
    while not await is_known(servers, version):  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.1)
    return worker


async def is_known(servers: Servers, version: WorkerDeploymentVersion) -> bool:
    try:
        return QUEUE in await queues_of(servers.client, version)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False


async def some_are_billed(servers: Servers, period: str, count: int) -> None:
    async with servers.everything() as rows:
        while True:
            found = await rows.execute("select count(*) from invoices where period = %s", [period])
            row = await found.fetchone()
            assert row is not None
            if row["count"] >= count:
                return
            await asyncio.sleep(0.05)


async def version_of(servers: Servers, workflow_id: str) -> str:
    described = await servers.client.get_workflow_handle(workflow_id).describe()
    build_id: str = described.raw_info.versioning_info.deployment_version.build_id
    return build_id


@pytest.mark.timeout(7200)
async def test_a_rolling_deploy_loses_and_doubles_nothing(servers: Servers) -> None:
    versions = [WorkerDeploymentVersion(DEPLOYMENT, f"build-{n}") for n in range(ROUNDS + 1)]
    present = await worker_of(servers, versions[0])
    await make_current(servers.client, versions[0], by="a test")
    first = frozenset(servers.tenants[:FIRST])
    releases = Releases(servers.database)
    directory = ControlPlaneDirectory(servers.database)
    for number in range(ROUNDS):
        old, new = versions[number], versions[number + 1]
        period = f"{2000 + number // 12}-{number % 12 + 1:02}"
        await load_month(servers.database, servers.tenants, period)
        following = await worker_of(servers, new)
        by_tenant = number % 2 == 1
        if by_tenant:
            cohort = Cohort(first)
            await releases.ramp(new, cohort, MANY, directory=directory, by="a test")
        fan_out = await servers.client.start_workflow(
            FanOut.run,
            FanOutInput(job=JOB, tick=period, window=4, shard_size=5),
            id=f"platform/{JOB}/tick-{period}",
            task_queue=QUEUE,
        )
        await some_are_billed(servers, period, 3)
        await make_current(servers.client, new, by="a test")
        how = (signal.SIGKILL, signal.SIGTERM)[number // 2 % 2]
        servers.workers.remove(present)
        present.send(how)
        replaced = await worker_of(servers, old)  # the fan-out ends on the version it began on
        assert await present.exit_code() == (0 if how is signal.SIGTERM else -how)
        result = await fan_out.result()
        assert (result.planned, result.succeeded) == (len(servers.tenants), len(servers.tenants))
        async with servers.everything() as rows:
            assert await problems(rows, servers.client, Tick(JOB, period)) == []
        assert await version_of(servers, f"platform/{JOB}/tick-{period}") == old.build_id
        for tenant in servers.tenants:
            expected = new if by_tenant and tenant in first else old
            assert await version_of(servers, f"{tenant}/{JOB}/{period}") == expected.build_id
        if by_tenant:
            await releases.end(new, ReleaseState.PROMOTED, reason=None, by="a test")
        servers.workers.remove(replaced)
        replaced.send(signal.SIGTERM)
        assert await replaced.exit_code() == 0
        present = following
        print(f"round {number + 1}: {how.name}, {'by tenant' if by_tenant else 'for all'}, right")

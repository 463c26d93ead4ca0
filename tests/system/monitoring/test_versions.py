"""The processes of a release say one version, wherever a version is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.running_processes import running_processes
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.deployments.polling import KINDS, pollers_of
from temporal_tenancy.postgres.database import Database
from tests.fixtures.starter import Starter
from tests.fixtures.worker_process import StartWorker
from tests.system.monitoring.test_queries import (
    PERIOD,
    Running,
    doctors_view,
    scraped,
    start_all,
)

pytestmark = pytest.mark.schedules

DEPLOYMENT: Final = "saas"
BUILD: Final = "2026-11-28.1"


async def test_a_process_says_the_same_version_everywhere(
    tenants: Tenants,
    database_urls: DatabaseUrls,
    database: Database,
    raw_client: Client,
    namespace: str,
    start_worker: StartWorker,
    starter: Starter,
    tmp_path: Path,
) -> None:
    await tenants.add("ua", "United", plan="enterprise")
    running = await start_all(
        start_worker,
        database_urls,
        tmp_path,
        WORKER_DEPLOYMENT_NAME=DEPLOYMENT,
        WORKER_BUILD_ID=BUILD,
    )
    client = await Client.connect(raw_client.service_client.config.target_host, namespace=namespace)

    assert logged(running) == dict.fromkeys(
        ("worker.starting", "worker.started", "relay.starting", "relay.started", "web.started"),
        BUILD,
    )
    for process in running:
        [(labels, _)] = scraped(process)["tenancy_process_info"]
        assert labels["version"] == BUILD
    assert await rows(database) == dict.fromkeys(("relay", "web", "worker"), BUILD)
    assert await polled(client) == {(DEPLOYMENT, BUILD)}

    promoted = await starter("deployments", "promote", BUILD, "--json")
    assert promoted.code == 0, promoted.err
    top = (await starter("top", "--json")).document
    assert {row["version"] for row in top["workers"]} == {BUILD}
    [listed] = (await starter("deployments", "list", "--json")).document["deployments"]
    assert (listed["current"], [each["build_id"] for each in listed["versions"]]) == (
        BUILD,
        [BUILD],
    )
    said = await doctors_view(starter)
    assert said["verdict"] == "ok", said
    assert said["message"].endswith(f"Version: {BUILD}.")

    ran = await starter("run", "billing.cycle", "--tenant", "ua", "--input", PERIOD, "--wait")
    assert ran.code == 0, ran.err
    assert await recorded(client, "ua/billing.cycle/2013-04") == {(DEPLOYMENT, BUILD)}


def logged(running: Running) -> dict[str, Any]:
    """Returns the version of each event that says one."""
    return {
        line["event"]: line["version"]
        for process in running
        for line in process.lines()
        if "version" in line
    }


async def rows(database: Database) -> dict[str, str]:
    """Returns the version of each process, by kind, once all have said that they run."""
    async with asyncio.timeout(30):
        while True:
            async with database.platform_session("look for processes in a test") as session:
                found = {each.kind: each.version for each in await running_processes(session)}
            if len(found) == len(Running._fields):
                return found
            await asyncio.sleep(0.05)


async def polled(client: Client) -> set[tuple[str, str]]:
    """Returns the versions that the SDK says as it polls."""
    return {
        (each.deployment_options.deployment_name, each.deployment_options.build_id)
        for queue in ("bulk", "critical")
        for kind in KINDS
        for each in await pollers_of(client, queue, kind)
    }


async def recorded(client: Client, workflow_id: str) -> set[tuple[str, str]]:
    """Returns the versions in the history of a run."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return {
        (version.deployment_name, version.build_id)
        for each in history.events
        if each.HasField("workflow_task_completed_event_attributes")
        for version in [each.workflow_task_completed_event_attributes.deployment_version]
    }

"""The test kit: activities of a tenant, workers on a given server, forged clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.directory import TenantStatus, current_tenant_record
from temporal_tenancy.core.errors import (
    ConfigurationError,
    ScopeMissing,
    TenantMismatch,
    TenantOffboarding,
    TenantUnknown,
    UnknownJob,
)
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.testing import (
    InMemoryDirectory,
    TenantActivityEnvironment,
    forged,
    make_tenant,
    refused,
    running_worker,
)
from tests.fixtures.jobs import hops as jobs

NOTE = jobs.Note()


def test_the_pytest_plugin_imports_nothing_until_it_is_used() -> None:
    code = """
import sys
import temporal_tenancy.testing.plugin
heavy = {"sqlalchemy", "psycopg", "temporalio", "pydantic", "alembic"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_activities_alone_import_no_database() -> None:
    code = """
import sys
from temporal_tenancy.testing import TenantActivityEnvironment, forged, running_worker
TenantActivityEnvironment("acme")
print(sorted({"sqlalchemy", "psycopg"} & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@tenant_activity
def tell_all(note: jobs.Note) -> list[object]:
    activity.heartbeat(1, "two")
    info = activity.info()
    is_main = threading.current_thread() is threading.main_thread()
    return [current_tenant(), current_tenant_record().name, info.workflow_id, info.attempt, is_main]


async def test_a_synchronous_activity_runs_in_its_tenant_in_a_thread() -> None:
    environment = TenantActivityEnvironment(
        make_tenant("acme", name="Acme Inc"), job=jobs.Echo, key="7"
    )
    environment.info = replace(environment.info, attempt=3)
    told = await environment.run(tell_all, NOTE)
    assert told == ["acme", "Acme Inc", "acme/echo.tell/7", 3, False]
    assert environment.heartbeats == [(1, "two")]


@pytest.mark.parametrize("function", [jobs.tell_tenant, jobs.tell_tenant_sync])
async def test_the_tenant_is_gone_after_the_activity(function: Any) -> None:
    assert await TenantActivityEnvironment("globex", job="echo.tell").run(function, NOTE) == (
        "globex"
    )
    with pytest.raises(ScopeMissing):
        current_tenant()


async def test_an_activity_is_cancelled() -> None:
    begun = asyncio.Event()

    @tenant_activity
    async def wait(note: jobs.Note) -> None:
        begun.set()
        await asyncio.Event().wait()

    environment = TenantActivityEnvironment("acme")
    running = asyncio.create_task(environment.run(wait, NOTE))
    await begun.wait()
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("tenant", "error"),
    [
        (make_tenant("acme", TenantStatus.OFFBOARDING), TenantOffboarding),
        (make_tenant("other"), TenantUnknown),
    ],
)
async def test_who_may_not_run_is_refused(tenant: Any, error: type[Exception]) -> None:
    directory = InMemoryDirectory([make_tenant("acme", TenantStatus.OFFBOARDING)])
    with pytest.raises(error):
        await TenantActivityEnvironment(tenant, directory=directory).run(jobs.tell_tenant, NOTE)


async def test_an_input_of_another_tenant_is_refused() -> None:
    with pytest.raises(TenantMismatch):
        await TenantActivityEnvironment("acme").run(
            jobs.tell_named_tenant, jobs.NamedNote(tenant_id="globex")
        )


async def test_what_is_no_activity_or_no_tenants_job_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is no declared activity"):
        await TenantActivityEnvironment("acme").run(jobs.scope_here)
    with pytest.raises(ConfigurationError, match="is no tenant's job"):
        TenantActivityEnvironment("acme", job=jobs.Note)
    with pytest.raises(UnknownJob):
        TenantActivityEnvironment("acme", job="not.imported")


@pytest.mark.parametrize("kind", ["address", "client", "environment"])
async def test_a_worker_runs_on_the_server_that_it_is_given(
    temporal: TemporalDevServer, bare_namespace: str, plugin: TenancyPlugin, kind: str
) -> None:
    given = await Client.connect(temporal.address, namespace=bare_namespace)
    servers: dict[str, Any] = {
        "address": temporal.address,
        "client": given,
        "environment": SimpleNamespace(client=given),
    }
    async with running_worker(
        servers[kind],
        plugin,
        workflows=jobs.WORKFLOWS,
        activities=jobs.ACTIVITIES,
        namespace=bare_namespace,
    ) as running:
        told = await running.client.execute_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id="acme"),
            id=f"acme/echo.tell/{running.task_queue}",
            task_queue=running.task_queue,
        )
        assert told == "acme"
        assert given.config()["plugins"] == []
        with refused("TenantMismatch"):
            await forged(running.client, "globex").execute_workflow(
                "echo.tell",
                {"tenant_id": "acme"},
                id=f"acme/echo.tell/forged-{running.task_queue}",
                task_queue=running.task_queue,
            )


def test_what_is_not_refused_fails_the_test() -> None:
    expected = "should have been refused with TenantMismatch"
    with pytest.raises(AssertionError, match=expected), refused(TenantMismatch):
        pass
    with pytest.raises(ApplicationError), refused(TenantMismatch):
        raise ApplicationError("another", type="Another")

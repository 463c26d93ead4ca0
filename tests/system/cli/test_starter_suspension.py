"""An operator suspends a tenant, sees what waits, and resumes it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg.types.json import Jsonb
from temporalio.client import Client
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from saas.database.environment import TENANT_DATA
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.connections import connect
from tests.fixtures.jobs import suspension_control, suspension_jobs
from tests.fixtures.jobs.suspension_control import Control
from tests.fixtures.jobs.suspension_jobs import QUEUE
from tests.fixtures.starter import Said, Starter
from tests.library.sdk.test_suspension import PAUSED, until, until_listed

PROGRAM = ("-m", "tests.system.cli.suspended_too")
RUN = "acme/test.patient/1"


@pytest.fixture
async def control(
    saas: Client, tenants: Tenants, starter_environ: dict[str, str]
) -> AsyncIterator[Control]:
    """A worker whose activities wait for the test."""
    await tenants.add("acme", "Acme", plan="enterprise")
    control = suspension_control.new_control()
    async with Worker(
        saas,
        task_queue=QUEUE,
        workflows=[suspension_jobs.Patient],
        activities=[suspension_control.step_on],
    ):
        yield control
        control.release()


async def test_a_run_waits_out_a_suspension_and_says_so(
    saas: Client, starter: Starter, control: Control
) -> None:
    async def say(*arguments: str, code: int = 0) -> Said:
        said = await starter(*arguments, program=PROGRAM)
        assert said.code == code, said
        return said

    await say("run", "test.patient", "--tenant", "acme", "--key", "1")
    await control.until_begun(1)
    suspended = await say("tenants", "suspend", "acme")
    assert "Runs that wait until then: 1." in suspended.out
    await until(saas.get_workflow_handle(RUN), PAUSED)
    await until_listed(saas)
    explained = (await say("explain", RUN, "--json")).document
    [waiting] = explained["waiting_for"]
    assert waiting.startswith("step_on is paused while acme is suspended since 2")
    assert explained["what_to_do"][0].startswith("TenantSuspended: acme is suspended since 2")
    assert '"starter.py tenants resume acme"' in explained["what_to_do"][0]

    started = await say("run", "test.patient", "--tenant", "acme", "--key", "2", "--json")
    assert started.document["started"]
    assert started.err.startswith("It waits: acme is suspended since 2")
    refused = await say("run", "test.impatient", "--tenant", "acme", code=2)
    assert refused.err.startswith("TenantSuspended: ")
    await until(saas.get_workflow_handle("acme/test.patient/2"), PAUSED)
    await until_listed(saas, 2)

    control.release()
    resumed = await say("tenants", "resume", "acme")
    assert "Waiting activities that continue: 2." in resumed.out
    assert await saas.get_workflow_handle(RUN).result() == 1
    assert await saas.get_workflow_handle("acme/test.patient/2").result() == 0


async def test_a_run_that_waits_for_the_migration_of_its_store_says_so(
    saas: Client, starter: Starter, control: Control, database_urls: DatabaseUrls
) -> None:
    run = ("run", "test.patient", "--tenant", "acme", "--key", "3")
    assert (await starter(*run, program=PROGRAM)).code == 0
    await control.until_begun(1)
    assert (await starter("tenants", "suspend", "acme")).code == 0
    handle = saas.get_workflow_handle("acme/test.patient/3")
    await until(handle, PAUSED)
    with connect(database_urls.platform) as platform:
        platform.execute(
            "insert into tenancy.stores (name, isolation, schema, role, state, versions) values "
            "('t_one', 'schema', 't_one', 't_one', 'active', %s)",
            [Jsonb({TENANT_DATA.name: "0001"})],
        )
        platform.execute(
            "update tenancy.tenants set status = 'active', isolation = 'schema', store = 't_one'"
        )
    said = await starter("explain", handle.id, "--json", program=PROGRAM)
    await handle.terminate()
    [step] = said.document["what_to_do"]
    assert step.startswith("SchemaBehind: the store of acme is at 0001 of the tenants' data, and ")
    assert step.endswith('"starter.py migrate --status" shows how far it is, and why.')


async def test_a_tenant_is_resumed_also_while_temporal_is_away(
    starter: Starter, tenants: Tenants
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    resumed = await starter("tenants", "resume", "acme", TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (resumed.code, resumed.out[:14]) == (0, "acme is active")
    assert resumed.err.startswith(
        "Waiting activities continue within a minute of Temporal's return: "
    )

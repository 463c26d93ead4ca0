"""A process whose tenant ids are UUIDs or bigints connects, makes its schedules and runs jobs."""

from __future__ import annotations

import uuid

import pytest
from temporalio.client import Client

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy import ScheduledJob, TenancyPlugin, TenantInvalid
from temporal_tenancy.core.tenant_id_types import TenantIdType
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.temporal import make_worker
from tests.fixtures.tenant_columns import own_tenant_types

UUID = "0192f0c1-2b4d-7e8f-9abc-def012345678"


@pytest.mark.parametrize(
    ("type", "tenant", "second_spelling"),
    [("uuid", UUID, UUID.upper()), ("bigint", "42", "042")],
)
async def test_ids_of_a_declared_type_do_for_all_of_it(
    temporal: TemporalDevServer, type: TenantIdType, tenant: str, second_spelling: str
) -> None:
    queue = f"test-{uuid.uuid4()}"
    with own_tenant_types(type):
        plugin = TenancyPlugin(
            directory=InMemoryDirectory([make_tenant(tenant)]),
            passthrough=["tests.fixtures.jobs.marks", "structlog"],
            exempt=jobs.EXEMPT,
        )
        client = await Client.connect(temporal.address, plugins=[plugin])
        ScheduledJob("echo.tell", "0 3 * * *").check()
        async with make_worker(client, queue):
            told = await client.execute_workflow(
                jobs.Echo.run,
                jobs.EchoInput(tenant_id=tenant),
                id=f"{tenant}/echo.tell/{queue}",
                task_queue=queue,
            )
        with pytest.raises(TenantInvalid):
            jobs.EchoInput(tenant_id=second_spelling)
    assert told == tenant

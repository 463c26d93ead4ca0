"""Jobs wait, without a slot or an attempt, until their tenant's store has what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import CachedDirectory, Tenant
from temporal_tenancy.core.errors import ConfigurationError, SchemaBehind
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.migration_environment import CONTROL_PLANE, MigrationEnvironment
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.suspension import IDENTITY
from temporal_tenancy.stores import migrated_stores
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from temporal_tenancy.ticks.reconcile import reconcile
from tests.fixtures.jobs import suspension_control, suspension_jobs
from tests.fixtures.jobs.suspension_control import Control
from tests.fixtures.jobs.suspension_jobs import QUEUE, Impatient
from tests.library.sdk.test_suspension import (
    PAUSED,
    failure,
    run_platform_job,
    start,
    until,
    until_listed,
)
from tests.library.stores.conftest import Shop, shop
from tests.library.stores.test_upgrading import ADD

__all__ = ["shop"]

JOB = registry["test.impatient"]


def at(revision: str | None, **more: str) -> Tenant:
    versions = {**({} if revision is None else {"orders": revision}), **more}
    return make_tenant("acme", schema_versions=versions)


@pytest.fixture
def orders(shop: Shop) -> MigrationEnvironment:
    """Two migrations: 0001 and 0002."""
    return shop(ADD)


@pytest.fixture
def directory() -> InMemoryDirectory:
    """One tenant, whose own store lacks the last migration."""
    return InMemoryDirectory([at("0001"), make_tenant("globex")])


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    control = suspension_control.new_control()
    yield control
    control.release()


@pytest.fixture
async def client(
    temporal: TemporalDevServer,
    namespace: str,
    directory: InMemoryDirectory,
    orders: MigrationEnvironment,
) -> Client:
    plugin = TenancyPlugin(
        directory=CachedDirectory(directory, seconds=0),
        features=[replace(reconcile(), migrations=())],
        passthrough=["tests.fixtures.jobs.suspension_control"],
        migrations=[orders],
    )
    return await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])


async def test_a_job_waits_without_a_slot_or_an_attempt_until_its_store_is_migrated(
    client: Client, directory: InMemoryDirectory, control: Control
) -> None:
    control.release()
    async with Worker(
        client,
        task_queue=QUEUE,
        max_concurrent_activities=1,
        workflows=[Impatient],
        activities=[suspension_control.step_on],
    ):
        handle = await start(client, "test.impatient")
        waiting = await until(handle, PAUSED)
        assert waiting.pause_info.manual.identity == IDENTITY
        assert waiting.pause_info.manual.reason == (
            "the store of acme is at 0001 of the orders, and test.impatient needs 0002"
        )
        assert waiting.last_failure.application_failure_info.type == "SchemaBehind"
        assert await (await start(client, "test.impatient", "globex")).result() == 0
        await until_listed(client)
        assert await run_platform_job(client) == 0  # it is still behind
        directory.add(at("0002"))
        assert await run_platform_job(client) == 1
        assert await handle.result() == 0
    assert control.begun == ["globex, attempt 1, from 0", "acme, attempt 1, from 0"]


async def test_a_local_activity_which_no_server_can_pause_fails_and_may_be_tried_again(
    client: Client, control: Control
) -> None:
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[suspension_jobs.PatientLocal],
        activities=[suspension_control.step_on],
    ):
        error = await failure(await start(client, "test.patient_local"))
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable) == ("SchemaBehind", False)
    assert control.begun == []


@pytest.mark.parametrize(
    ("tenant", "declared", "lacks"),
    [
        (at("0001"), None, "0002"),
        (at("0002"), None, None),
        (at("0003"), None, None),  # a newer release's
        (at(None), None, "0002"),
        (at("0001"), "0001", None),
        (at("0001"), "orders:0001", None),
        (at("0001"), "0002", "0002"),
        (at("0002", **{CONTROL_PLANE.name: "0001"}), None, "the control plane"),
        (make_tenant("acme"), None, None),  # in the shared store
    ],
)
def test_a_job_needs_the_newest_migration_or_the_one_that_it_declares(
    orders: MigrationEnvironment, tenant: Tenant, declared: str | None, lacks: str | None
) -> None:
    feature = migrated_stores([orders])
    assert feature.waits_for is not None
    reason = feature.waits_for(tenant, replace(JOB, schema=declared))
    assert isinstance(reason, SchemaBehind) is (lacks is not None)
    assert lacks is None or lacks in str(reason)


@pytest.mark.parametrize("declared", ["0009", "other:0001", ""])
def test_a_job_cannot_need_a_migration_that_there_is_not(
    orders: MigrationEnvironment, declared: str
) -> None:
    plugin = TenancyPlugin(features=[], migrations=[orders])
    with pytest.raises(ConfigurationError, match="needs the migration"):
        plugin._check_schema(replace(JOB, schema=declared))
    plugin._check_schema(replace(JOB, schema="0001"))


def test_a_job_that_needs_a_migration_is_refused_where_no_migrations_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"Name them: TenancyPlugin\(migrations="):
        TenancyPlugin(features=[])._check_schema(replace(JOB, schema="0001"))


async def test_the_directory_says_which_migrations_a_tenants_own_store_has(
    database: Database, tenants: Tenants, database_urls: DatabaseUrls
) -> None:
    for name in ("acme", "globex"):
        await tenants.add(name, name, plan="free")
    with connect(database_urls.platform) as platform:
        platform.execute(
            "insert into tenancy.stores (name, isolation, schema, role, state, versions) "
            "values ('t_one', 'schema', 't_one', 't_one', 'active', '{\"orders\": \"0001\"}')"
        )
        platform.execute(
            "update tenancy.tenants set isolation = 'schema', store = 't_one' where id = 'acme'"
        )
    found = await ControlPlaneDirectory(database).find_many(["acme", "globex"])
    assert {each.id: each.schema_versions for each in found} == {
        "acme": {"orders": "0001"},
        "globex": None,
    }

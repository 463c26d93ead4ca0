"""Looking up a tenant's store: fresh, shared by callers, and never the shared store by mistake."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus
from temporal_tenancy.core.errors import StoreUnsupported, TenantUnknown
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.stores import SHARED_STORE, Isolation
from temporal_tenancy.postgres._acting import acting_for
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.stores._directory import ControlPlaneStores
from temporal_tenancy.stores.errors import ConnectionSecretMissing
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.secrets import FileConnectionSecrets
from temporal_tenancy.stores.sign_up import SignUp


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(
    database: Database, connection_secrets: FileConnectionSecrets, clock: Clock
) -> ControlPlaneStores:
    return ControlPlaneStores(database, connection_secrets, clock=clock)


@pytest.fixture
def queries(database: Database) -> list[str]:
    """The queries of the control plane."""
    found: list[str] = []

    def keep(*arguments: object) -> None:
        if "tenants" in str(arguments[2]):
            found.append(str(arguments[2]))

    event.listen(database.platform_engine.sync_engine, "after_cursor_execute", keep)
    return found


@pytest.fixture
async def sign_up(database: Database, connection_secrets: FileConnectionSecrets) -> SignUp:
    return SignUp(database, connection_secrets)


async def test_each_tenant_has_its_own_store(
    preparation: Preparation,
    other_database: DatabaseUrls,
    sign_up: SignUp,
    stores: ControlPlaneStores,
) -> None:
    schema = preparation.prepare(Isolation.SCHEMA)
    own = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    await sign_up.add("a", "A", plan="free")
    await sign_up.add("b", "B", plan="free", store=schema)
    await sign_up.add("c", "C", plan="free", store=own)
    a, b, c = [await stores.store_of(tenant) for tenant in "abc"]
    assert (a.name, a.isolation, a.url, a.schema) == (SHARED_STORE, Isolation.SHARED, None, None)
    assert (b.name, b.isolation, b.url, b.schema, b.role) == (
        *(schema, Isolation.SCHEMA, None, schema, schema),
    )
    assert (c.name, c.isolation, c.url, c.schema) == (
        *(own, Isolation.DATABASE, other_database.tenant, None),
    )
    password = other_database.tenant.split(":")[2].split("@")[0]
    assert password not in repr(c)


async def test_callers_at_once_share_a_query_and_the_answer_is_kept_for_5_seconds(
    sign_up: SignUp, stores: ControlPlaneStores, clock: Clock, queries: list[str]
) -> None:
    for tenant in ("a", "b"):
        await sign_up.add(tenant, tenant, plan="free")
    queries.clear()
    await asyncio.gather(*(stores.store_of(tenant) for tenant in ("a", "b") * 50))
    clock.now = 4.9
    await stores.store_of("a")
    assert len(queries) == 1
    clock.now = 5.0
    await stores.store_of("a")
    assert len(queries) == 2


async def test_a_tenants_own_code_may_ask(sign_up: SignUp, stores: ControlPlaneStores) -> None:
    await sign_up.add("a", "A", plan="free")
    with enter(TenantScope("a")):
        assert (await stores.store_of("a")).name == SHARED_STORE


async def test_a_rotated_password_is_used_within_5_seconds(
    preparation: Preparation,
    other_database: DatabaseUrls,
    sign_up: SignUp,
    stores: ControlPlaneStores,
    clock: Clock,
    connection_secrets: FileConnectionSecrets,
) -> None:
    own = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    await sign_up.add("c", "C", plan="free", store=own)
    await stores.store_of("c")
    rotated = "postgresql://tenancy_tenant:n3w@127.0.0.1/a_store"
    connection_secrets.put(f"{own}.tenant", rotated)
    clock.now = 5.0
    assert (await stores.store_of("c")).url == rotated


@pytest.mark.parametrize("tenant", ["nobody", "", "a b", "x" * 100])
async def test_an_unknown_tenant_has_no_store(stores: ControlPlaneStores, tenant: str) -> None:
    with pytest.raises(TenantUnknown):
        await stores.store_of(tenant)


async def test_a_missing_connection_is_an_error_and_not_the_shared_store(
    preparation: Preparation,
    other_database: DatabaseUrls,
    sign_up: SignUp,
    stores: ControlPlaneStores,
    database: Database,
    connection_secrets: FileConnectionSecrets,
) -> None:
    own = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    await sign_up.add("c", "C", plan="free", store=own)
    with pytest.raises(ConnectionSecretMissing, match="this process has no secret store"):
        await ControlPlaneStores(database).store_of("c")
    connection_secrets.remove(f"{own}.tenant")
    with pytest.raises(ConnectionSecretMissing, match=rf'no connection "{own}.tenant"'):
        await stores.store_of("c")


async def test_a_control_plane_that_is_down_is_an_error_once_the_answer_is_old(
    sign_up: SignUp, database_urls: DatabaseUrls, clock: Clock
) -> None:
    await sign_up.add("a", "A", plan="free")
    down = Database(platform_url=database_urls.platform.rpartition(":")[0] + ":1/x")
    lost = ControlPlaneStores(down, clock=clock)
    with pytest.raises(DatabaseUnreachable):
        await lost.store_of("a")
    await down.dispose()


def test_an_answer_is_kept_for_5_seconds_at_most(database: Database) -> None:
    with pytest.raises(ValueError, match="0 to 5 s"):
        ControlPlaneStores(database, seconds=6)


async def test_a_process_that_knows_no_stores_does_not_work_for_a_tenant_with_one(
    database_urls: DatabaseUrls, database: Database
) -> None:
    """It would read and write the shared tables."""
    tenants = Database(tenant_url=database_urls.tenant)
    record = Tenant(
        id="acme",
        name="acme",
        status=TenantStatus.ACTIVE,
        plan=Plan(id="free"),
        isolation=Isolation.SCHEMA,
        store="t_1",
    )
    with acting_for(record, tenants), pytest.raises(StoreUnsupported, match="stores="):
        async with tenant_session():
            pytest.fail("a session opened")
    await tenants.dispose()


async def test_the_record_of_a_job_says_that_its_tenant_is_in_the_shared_store(
    database: Database,
) -> None:
    """The tenant is in no table: nothing was asked."""
    stores = ControlPlaneStores(database)
    record = Tenant(
        id="nobody",
        name="nobody",
        status=TenantStatus.ACTIVE,
        plan=Plan(id="free"),
        isolation=Isolation.SHARED,
    )
    with acting_for(record, database):
        assert (await stores.store_of("nobody")).isolation is Isolation.SHARED
    unsaid = Tenant(id="nobody", name="nobody", status=TenantStatus.ACTIVE, plan=Plan(id="free"))
    with acting_for(unsaid, database), pytest.raises(TenantUnknown):
        await stores.store_of("nobody")

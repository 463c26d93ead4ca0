"""Signing up: a tenant and its place in a store, together or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import make_url

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.plans import PlanUnknown
from temporal_tenancy.control_plane.tables import StoreState
from temporal_tenancy.control_plane.tenants import TenantExists
from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.stores import SHARED_STORE, Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.stores.errors import (
    ConnectionSecretMissing,
    NoStoreFree,
    StoreDraining,
    StoreFull,
    StoreNotReady,
    StoreRefused,
    StoreUnknown,
    StoreUnreachable,
)
from temporal_tenancy.stores.placement import FreeStore, NewTenant, Placement
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.registry import Stores
from temporal_tenancy.stores.secrets import PLATFORM, FileConnectionSecrets, secret_name
from temporal_tenancy.stores.sign_up import SignUp
from tests.fixtures.pgbouncer import PgBouncer


@pytest.fixture
def sign_up(database: Database, connection_secrets: FileConnectionSecrets) -> SignUp:
    return SignUp(database, connection_secrets)


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)


async def add(sign_up: SignUp, tenant: str, **place: object) -> Tenant:
    return await sign_up.add(tenant, tenant, plan="free", **place)  # type: ignore[arg-type]


def whose(owner: psycopg.Connection, store: str) -> object:
    query = f'select tenant_id from "{store}".store_identity'
    return owner.execute(query.encode()).fetchone()


async def test_a_tenant_is_in_the_shared_store_unless_somebody_says_otherwise(
    sign_up: SignUp, database: Database
) -> None:
    tenant = await add(sign_up, "acme")
    assert (tenant.isolation, tenant.store) == (Isolation.SHARED, SHARED_STORE)
    assert await ControlPlaneDirectory(database).find("acme") == tenant


async def test_a_schema_store_is_given_once_and_says_whose_it_is(
    preparation: Preparation,
    sign_up: SignUp,
    database: Database,
    stores: Stores,
    owner: psycopg.Connection,
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    tenant = await add(sign_up, "acme", isolation=Isolation.SCHEMA)
    assert (tenant.isolation, tenant.store) == (Isolation.SCHEMA, name)
    assert await ControlPlaneDirectory(database).find("acme") == tenant
    assert whose(owner, name) == ("acme",)
    store = await stores.show(name)
    assert (store.state, store.tenants) == (StoreState.ACTIVE, ("acme",))
    with pytest.raises(StoreFull, match=name):
        await add(sign_up, "other", store=name)
    with pytest.raises(NoStoreFree, match="no prepared schema store is free for other"):
        await add(sign_up, "other", isolation=Isolation.SCHEMA)


async def test_who_finds_no_store_is_told_of_a_drained_one(
    preparation: Preparation, sign_up: SignUp, stores: Stores
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    await stores.drain(name)
    with pytest.raises(NoStoreFree, match=f"free for acme. {name} is empty but drained: let it"):
        await add(sign_up, "acme", isolation=Isolation.SCHEMA)
    with pytest.raises(NoStoreFree, match=r"in the region eu is free for acme\. Prepare"):
        await add(sign_up, "acme", isolation=Isolation.SCHEMA, region="eu")
    await stores.undrain(name)
    assert (await add(sign_up, "acme", isolation=Isolation.SCHEMA)).store == name


async def test_a_database_store_says_whose_it_is(
    preparation: Preparation, sign_up: SignUp, other_database: DatabaseUrls
) -> None:
    name = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    tenant = await add(sign_up, "acme", store=name)
    assert (tenant.isolation, tenant.store) == (Isolation.DATABASE, name)
    with connect(other_database.tenant) as login:
        assert login.execute("select store, tenant_id from store_identity").fetchall() == [
            (name, "acme")
        ]


async def test_signing_up_leaves_nothing_on_a_poolers_connection(
    preparation: Preparation,
    sign_up: SignUp,
    other_database: DatabaseUrls,
    connection_secrets: FileConnectionSecrets,
    pgbouncer: PgBouncer,
) -> None:
    name = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    url = pgbouncer.url(other_database.platform)
    connection_secrets.put(secret_name(name, PLATFORM), url)
    await add(sign_up, "acme", store=name)
    timeout = "show statement_timeout"
    with connect(url) as reused, connect(other_database.platform) as direct:
        assert reused.execute(timeout).fetchone() == direct.execute(timeout).fetchone()


@pytest.mark.parametrize("isolation", Isolation)
async def test_signing_up_takes_under_a_second_in_every_mode(
    preparation: Preparation,
    sign_up: SignUp,
    other_database: DatabaseUrls,
    isolation: Isolation,
) -> None:
    if isolation is not Isolation.SHARED:
        at = other_database.owner if isolation is Isolation.DATABASE else None
        preparation.prepare(isolation, at=at)
    await add(sign_up, "first")  # opens the connection
    began = time.perf_counter()
    await add(sign_up, "acme", isolation=isolation)
    took = time.perf_counter() - began
    print(f"signing up, {isolation}: {took * 1000:.1f} ms")
    assert took < 1


@pytest.mark.parametrize(
    ("tenant", "plan", "error"), [("taken", "free", TenantExists), ("acme", "none", PlanUnknown)]
)
async def test_a_tenant_that_cannot_be_added_takes_no_store(
    preparation: Preparation,
    sign_up: SignUp,
    owner: psycopg.Connection,
    tenant: str,
    plan: str,
    error: type[Exception],
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    await add(sign_up, "taken")
    with pytest.raises(error):
        await sign_up.add(tenant, tenant, plan=plan, store=name)
    assert whose(owner, name) == (None,)
    assert owner.execute("select state from tenancy.stores").fetchall() == [("ready",)]


async def test_sign_ups_at_once_get_a_store_each(preparation: Preparation, sign_up: SignUp) -> None:
    names = {preparation.prepare(Isolation.SCHEMA) for _ in range(3)}
    added = await asyncio.gather(
        *(add(sign_up, f"t{number}", isolation=Isolation.SCHEMA) for number in range(4)),
        return_exceptions=True,
    )
    placed = {tenant.store for tenant in added if isinstance(tenant, Tenant)}
    assert placed == names
    assert [type(each) for each in added if not isinstance(each, Tenant)] == [NoStoreFree]


async def test_a_store_that_is_down_adds_nobody_and_another_takes_its_place(
    preparation: Preparation,
    sign_up: SignUp,
    database: Database,
    owner: psycopg.Connection,
    other_database: DatabaseUrls,
    connection_secrets: FileConnectionSecrets,
) -> None:
    up = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    owner.execute(
        "insert into tenancy.stores (name, isolation, secret, state, capacity) "
        "values ('a_down', 'database', 'a_down', 'ready', 1)"
    )
    connection_secrets.put("a_down.platform", "postgresql://a:s3cr3t@127.0.0.1:1/x")
    with pytest.raises(StoreUnreachable, match="the store a_down does not answer") as raised:
        await add(sign_up, "acme", store="a_down")
    assert "s3cr3t" not in str(raised.value)
    assert await ControlPlaneDirectory(database).find("acme") is None
    # The policy's first choice by name.
    assert (await add(sign_up, "acme", isolation=Isolation.DATABASE)).store == up
    with pytest.raises(StoreUnreachable):
        await add(sign_up, "other", isolation=Isolation.DATABASE)
    connection_secrets.remove("a_down.platform")
    with pytest.raises(ConnectionSecretMissing):
        await add(sign_up, "other", store="a_down")


async def test_a_store_that_lets_nobody_in_says_so(
    preparation: Preparation,
    sign_up: SignUp,
    other_database: DatabaseUrls,
    connection_secrets: FileConnectionSecrets,
) -> None:
    name = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    url = make_url(other_database.platform).set(password="s3cr3t")
    connection_secrets.put(f"{name}.platform", url.render_as_string(hide_password=False))
    with pytest.raises(StoreUnreachable, match="refused the password") as raised:
        await add(sign_up, "acme", store=name)
    assert "s3cr3t" not in str(raised.value)
    url = url.set(database="nowhere", password=make_url(other_database.platform).password)
    connection_secrets.put(f"{name}.platform", url.render_as_string(hide_password=False))
    with pytest.raises(StoreUnreachable, match="has no such database or role"):
        await add(sign_up, "acme", store=name)


async def test_a_store_at_anothers_place_is_refused(
    preparation: Preparation,
    sign_up: SignUp,
    owner: psycopg.Connection,
    other_database: DatabaseUrls,
    connection_secrets: FileConnectionSecrets,
) -> None:
    preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    owner.execute(
        "insert into tenancy.stores (name, isolation, secret, state, capacity) "
        "values ('wrong', 'database', 'wrong', 'ready', 1)"
    )
    connection_secrets.put("wrong.platform", other_database.platform)
    with pytest.raises(StoreRefused, match="says that it is another store"):
        await add(sign_up, "acme", store="wrong")


async def test_a_store_that_takes_no_tenant_is_refused_by_its_state(
    preparation: Preparation, sign_up: SignUp, stores: Stores, owner: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    assert (await stores.drain(name)).state is StoreState.DRAINING
    with pytest.raises(StoreDraining, match=name):
        await add(sign_up, "acme", store=name)
    with pytest.raises(NoStoreFree):
        await add(sign_up, "acme", isolation=Isolation.SCHEMA)
    owner.execute("update tenancy.stores set state = 'preparing'")
    with pytest.raises(StoreNotReady, match=name):
        await add(sign_up, "acme", store=name)
    with pytest.raises(StoreNotReady, match=name):
        await stores.drain(name)
    for unknown in (add(sign_up, "acme", store="t_none"), stores.drain("t_none")):
        with pytest.raises(StoreUnknown, match="no store t_none"):
            await unknown


async def test_a_drained_store_takes_tenants_again(
    preparation: Preparation, sign_up: SignUp, stores: Stores, owner: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    await stores.drain(name)
    assert (await stores.undrain(name)).state is StoreState.READY
    assert (await add(sign_up, "acme", isolation=Isolation.SCHEMA)).store == name
    assert (await stores.undrain(name)).state is StoreState.ACTIVE  # it was not drained
    await stores.drain(name)
    assert (await stores.undrain(name)).state is StoreState.ACTIVE
    with pytest.raises(StoreFull, match=name):
        await add(sign_up, "globex", store=name)
    owner.execute("update tenancy.stores set state = 'preparing'")
    with pytest.raises(StoreNotReady, match=name):
        await stores.undrain(name)
    with pytest.raises(StoreUnknown, match="no store t_none"):
        await stores.undrain("t_none")


async def test_isolation_and_region_are_those_that_were_asked_for(
    preparation: Preparation, sign_up: SignUp
) -> None:
    here = preparation.prepare(Isolation.SCHEMA, region="eu")
    with pytest.raises(StoreRefused, match="is a schema store, not database"):
        await add(sign_up, "acme", store=here, isolation=Isolation.DATABASE)
    with pytest.raises(StoreRefused, match="is in eu, not in us"):
        await add(sign_up, "acme", store=here, region="us")
    with pytest.raises(StoreRefused, match="is a shared store"):
        await add(sign_up, "acme", store=SHARED_STORE, isolation=Isolation.SCHEMA)
    for shared in ({"store": SHARED_STORE}, {"isolation": Isolation.SHARED}):
        with pytest.raises(StoreRefused, match="shared store is in no region, so not in eu"):
            await add(sign_up, "acme", region="eu", **shared)
    with pytest.raises(NoStoreFree, match="in the region us"):
        await add(sign_up, "acme", isolation=Isolation.SCHEMA, region="us")
    assert (await add(sign_up, "acme", isolation=Isolation.SCHEMA, region="eu")).store == here


async def test_the_plan_decides_and_an_applications_policy_too(
    preparation: Preparation, sign_up: SignUp
) -> None:
    first, second = sorted(preparation.prepare(Isolation.SCHEMA) for _ in range(2))

    class Last(Placement):
        def choose(self, tenant: NewTenant, stores: Sequence[FreeStore]) -> FreeStore | None:
            return stores[-1] if stores and tenant.id != "nobody" else None

    by_plan = replace(sign_up, policy=Last({"free": Isolation.SCHEMA}))
    with pytest.raises(NoStoreFree):
        await add(by_plan, "nobody")
    assert (await add(by_plan, "acme")).store == second
    assert (await add(by_plan, "other")).store == first


def test_the_least_full_region_is_first() -> None:
    stores = [
        FreeStore("a", Isolation.SCHEMA, "eu", 0.9),
        FreeStore("b", Isolation.SCHEMA, "us", 0.1),
        FreeStore("c", Isolation.SCHEMA, None, 0.5),
    ]
    anywhere, in_europe = NewTenant("t", "free", None), NewTenant("t", "free", "eu")
    chosen = [Placement().choose(tenant, stores) for tenant in (anywhere, in_europe)]
    assert [store and store.name for store in chosen] == ["b", "a"]
    assert Placement().choose(NewTenant("t", "free", "asia"), stores) is None

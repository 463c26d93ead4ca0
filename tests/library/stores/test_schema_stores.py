"""Schema stores: what their roles may do, and what a failed preparation leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.installation import Installation, Roles
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.postgres.role_checks import excess_rights
from temporal_tenancy.postgres.store_roles import make_store_role, stores_group
from temporal_tenancy.stores.errors import (
    StoreExists,
    StoreInUse,
    StorePreparationFailed,
    StoreRefused,
    StoreUnknown,
)
from temporal_tenancy.stores.preparation import Preparation
from tests.fixtures.tables.models import TABLES
from tests.library.stores.conftest import Shop

RELATIONS = """
    select relname::text from pg_class
    where relnamespace = to_regnamespace(%s) and relkind = 'r' order by 1
"""
ADD = "insert into invoices (tenant_id, period) values ('acme', '2013-04')"
MESSAGE = """
    insert into tenancy.outbox_messages (tenant_id, job, payload, status)
    values ('{tenant}', 'a.job', '{{}}', '{status}')
"""


@contextmanager
def inside(login: psycopg.Connection, store: str, tenant: str = "acme") -> Iterator[None]:
    """Runs the block as a session of the store does, and rolls back."""
    with login.transaction(force_rollback=True):
        login.execute(f'set local role "{store}"'.encode())
        login.execute(f'set local search_path to "{store}"'.encode())
        login.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        yield


def refused(login: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), login.transaction():
        login.execute(statement.encode())


def test_a_prepared_schema_has_the_applications_tables_and_nobodys_identity(
    preparation: Preparation, owner: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA, region="eu")
    tables = {table for (table,) in owner.execute(RELATIONS, [name])}
    assert {"invoices", "store_identity", TABLES.version_table} <= tables
    assert owner.execute(
        "select isolation, schema, role, secret, region, state from tenancy.stores"
    ).fetchall() == [("schema", name, name, None, "eu", "ready")]
    [(store, tenant)] = owner.execute(
        f"select store, tenant_id from {name}.store_identity".encode()
    ).fetchall()
    assert (store, tenant) == (name, None)


def test_a_session_in_the_stores_role_works_there_and_in_the_outbox(
    preparation: Preparation, tenants_login: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    with inside(tenants_login, name):
        tenants_login.execute(ADD.encode())
        assert tenants_login.execute("select tenant_id from invoices").fetchall() == [("acme",)]
        tenants_login.execute(MESSAGE.format(tenant="acme", status="pending").encode())
        found = tenants_login.execute("select tenant_id from tenancy.outbox_messages").fetchall()
        assert found == [("acme",)]
        tenants_login.execute(
            "insert into tenancy.processed_events (tenant_id, consumer, event_id) "
            "values ('acme', 'c', '1')"
        )
        assert tenants_login.execute("select store from store_identity").fetchall() == [(name,)]


def test_a_bulk_load_into_a_store_goes_through_a_temporary_table(
    preparation: Preparation, tenants_login: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    with inside(tenants_login, name):
        tenants_login.execute("create temporary table staged (like invoices) on commit drop")
        tenants_login.execute("insert into staged (tenant_id, period) values ('acme', '2013-04')")
        moved = tenants_login.execute("insert into invoices select * from staged returning period")
        assert moved.fetchall() == [("2013-04",)]


def test_row_level_security_holds_in_the_store_and_in_the_shared_outbox(
    preparation: Preparation, tenants_login: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    with inside(tenants_login, name):
        refused(tenants_login, ADD.replace("acme", "other"))
        refused(tenants_login, MESSAGE.format(tenant="other", status="pending"))


def test_a_store_role_writes_no_more_to_a_message_than_the_tenant_role(
    preparation: Preparation, tenants_login: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    with inside(tenants_login, name):
        refused(tenants_login, MESSAGE.format(tenant="acme", status="completed"))
        refused(tenants_login, "update tenancy.outbox_messages set job = 'other'")


def test_names_of_other_schemas_are_refused(
    preparation: Preparation, tenants_login: psycopg.Connection
) -> None:
    one, other = preparation.prepare(Isolation.SCHEMA), preparation.prepare(Isolation.SCHEMA)
    with inside(tenants_login, one):
        refused(tenants_login, f"select from {other}.invoices")
        refused(tenants_login, "select from public.invoices")
        refused(tenants_login, "select from tenancy.tenants")
        refused(tenants_login, "update store_identity set tenant_id = 'other'")
        refused(tenants_login, "create table mine (id int)")
        refused(tenants_login, "create table public.mine (id int)")


def test_the_login_has_no_right_in_a_store_until_it_enters_the_role(
    preparation: Preparation, tenants_login: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    refused(tenants_login, f"select from {name}.invoices")


def test_the_tenant_role_stays_without_excess_and_migrations_go_on(
    preparation: Preparation, owner: psycopg.Connection, database_urls: DatabaseUrls
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    assert excess_rights(owner, ["tenancy_tenant", name]) == []
    migrate(
        database_urls.owner,
        tenant_url=database_urls.tenant,
        platform_url=database_urls.platform,
        relay_url=database_urls.relay,
        application=[TABLES],
    )


def test_a_store_role_that_may_enter_anothers_is_excess(
    preparation: Preparation, owner: psycopg.Connection
) -> None:
    one, other = preparation.prepare(Isolation.SCHEMA), preparation.prepare(Isolation.SCHEMA)
    owner.execute(f"grant {other} to {one}".encode())
    [sentence] = excess_rights(owner, [one])
    assert f"the role {one} is a member of {other}" in sentence


def test_the_relay_in_a_store_role_is_excess(
    preparation: Preparation, owner: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    owner.execute(f"grant {name} to tenancy_relay".encode())
    sentences = excess_rights(owner, ["tenancy_relay"])
    assert any(f"is a member of {name}" in sentence for sentence in sentences)


def test_a_role_made_twice_is_the_same(preparation: Preparation, owner: psycopg.Connection) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    make_store_role(owner, name, Installation())
    assert stores_group(Roles()) == "tenancy_tenant_stores"


def _preparation(preparation: Preparation, environment: MigrationEnvironment) -> Preparation:
    return Preparation(preparation.owner_url, application=[environment])


def test_a_migration_that_fails_leaves_a_store_to_continue(
    preparation: Preparation,
    owner: psycopg.Connection,
    shop: Shop,
) -> None:
    broken = _preparation(preparation, shop("op.execute('alter table orders add x nothing')"))
    with pytest.raises(StorePreparationFailed, match=r't_shop could not.*"nothing" does not exist'):
        broken.prepare(Isolation.SCHEMA, name="t_shop")
    assert owner.execute("select name, state from tenancy.stores").fetchall() == [
        ("t_shop", "preparing")
    ]
    assert owner.execute(RELATIONS, ["t_shop"]).fetchall() == []
    assert owner.execute("select from pg_roles where rolname = 't_shop'").fetchone() is None
    mended = _preparation(preparation, shop("op.execute('alter table orders add x int')"))
    assert mended.prepare(Isolation.SCHEMA, name="t_shop") == "t_shop"
    assert owner.execute("select state from tenancy.stores").fetchall() == [("ready",)]


def test_a_migration_that_commits_stays_in_the_stores_schema(
    preparation: Preparation,
    owner: psycopg.Connection,
    shop: Shop,
) -> None:
    body = (
        "with op.get_context().autocommit_block():\n"
        "        op.execute('create index concurrently i on orders (tenant_id)')\n"
        "    op.execute('create table later (id int)')"
    )
    name = _preparation(preparation, shop(body)).prepare(Isolation.SCHEMA)
    tables = {table for (table,) in owner.execute(RELATIONS, [name])}
    assert {"orders", "later", "shop_version", "store_identity"} <= tables


def test_a_store_that_could_not_be_made_can_be_removed(
    preparation: Preparation,
    owner: psycopg.Connection,
    shop: Shop,
) -> None:
    broken = _preparation(preparation, shop("raise RuntimeError('no')"))
    with pytest.raises(StorePreparationFailed):
        broken.prepare(Isolation.SCHEMA, name="t_shop")
    broken.remove("t_shop")
    assert owner.execute("select from tenancy.stores").fetchall() == []
    with pytest.raises(StoreUnknown):
        broken.remove("t_shop")


def test_a_removed_store_leaves_no_schema_and_no_role(
    preparation: Preparation, owner: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    preparation.remove(name)
    assert owner.execute("select to_regnamespace(%s)::text", [name]).fetchone() == (None,)
    assert owner.execute("select from pg_roles where rolname = %s", [name]).fetchone() is None


def test_a_store_with_a_tenant_is_not_removed(
    preparation: Preparation, owner: psycopg.Connection
) -> None:
    name = preparation.prepare(Isolation.SCHEMA)
    owner.execute(
        "insert into tenancy.tenants (id, name, status, plan_id, isolation, store) "
        "values ('acme', 'Acme', 'active', 'free', 'schema', %s)",
        [name],
    )
    with pytest.raises(StoreInUse, match=name):
        preparation.remove(name)


@pytest.mark.parametrize("statement", ["create schema taken", "create role taken"])
def test_what_has_the_name_already_is_left_alone(
    preparation: Preparation, owner: psycopg.Connection, statement: str
) -> None:
    owner.execute(statement.encode())
    try:
        with pytest.raises(StoreExists, match=r"already a (schema|role) taken"):
            preparation.prepare(Isolation.SCHEMA, name="taken")
        assert owner.execute("select from tenancy.stores").fetchall() == []
    finally:
        owner.execute(statement.replace("create", "drop").encode())


def test_a_name_is_given_once(preparation: Preparation) -> None:
    preparation.prepare(Isolation.SCHEMA, name="t_one")
    with pytest.raises(StoreExists, match="t_one, and it is ready"):
        preparation.prepare(Isolation.SCHEMA, name="t_one")


@pytest.mark.parametrize("name", ["", "T", "1", "a-b", "pg_a", "shared", "a" * 64, 'a"; drop'])
def test_odd_names_are_refused(preparation: Preparation, name: str) -> None:
    with pytest.raises(StoreRefused):
        preparation.prepare(Isolation.SCHEMA, name=name)


def test_the_shared_store_is_not_prepared(preparation: Preparation) -> None:
    with pytest.raises(StoreRefused, match="needs no preparation"):
        preparation.prepare(Isolation.SHARED)


def test_a_migration_that_names_another_schema_makes_no_store(
    preparation: Preparation,
    owner: psycopg.Connection,
    shop: Shop,
) -> None:
    body = (
        "from temporal_tenancy import protect\n"
        "    op.execute('create table public.elsewhere (tenant_id text)')\n"
        "    protect('elsewhere', schema='public')"
    )
    with pytest.raises(StorePreparationFailed, match=r"rights on (public\.)?elsewhere, outside"):
        _preparation(preparation, shop(body)).prepare(Isolation.SCHEMA)
    assert owner.execute("select to_regclass('public.elsewhere')").fetchone() == (None,)

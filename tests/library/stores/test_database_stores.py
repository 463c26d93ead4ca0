"""Stores that are databases of their own."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.stores.errors import StoreExists, StorePreparationFailed, StoreRefused
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.secrets import FileConnectionSecrets

PASSWORDS = ("tenant", "platform", "relay")


async def test_a_given_database_gets_the_tables_the_identity_and_its_connections(
    preparation: Preparation,
    owner: psycopg.Connection,
    other_database: DatabaseUrls,
    connection_secrets: FileConnectionSecrets,
) -> None:
    name = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    assert owner.execute("select schema, secret, state from tenancy.stores").fetchall() == [
        (None, name, "ready")
    ]
    for role in PASSWORDS:
        assert await connection_secrets.url(f"{name}.{role}") == getattr(other_database, role)
    with connect(await connection_secrets.url(f"{name}.tenant")) as tenant:
        assert tenant.execute("select store, tenant_id from store_identity").fetchall() == [
            (name, None)
        ]
        assert tenant.execute("select from invoices").fetchall() == []
        assert tenant.execute("select from tenancy.outbox_messages").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            tenant.execute("update store_identity set tenant_id = 'acme'")


async def test_no_row_and_no_error_has_a_password(
    preparation: Preparation, owner: psycopg.Connection, other_database: DatabaseUrls
) -> None:
    name = preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    row = owner.execute("select stores::text from tenancy.stores").fetchone()
    with pytest.raises(StoreExists) as raised:
        preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    assert f"is the store {name} already" in str(raised.value)
    for url in (preparation.owner_url, preparation.tenant_url, other_database.owner):
        password = psycopg.conninfo.conninfo_to_dict(str(url).replace("+psycopg", ""))["password"]
        assert password
        assert str(password) not in f"{row} {raised.value!r} {preparation!r}"


def test_an_owner_who_may_create_databases_needs_no_url(
    preparation: Preparation, database_urls: DatabaseUrls, postgres: EmbeddedPostgres
) -> None:
    able = replace(preparation, owner_url=database_urls.superuser)
    name = able.prepare(Isolation.DATABASE, region="eu")
    with connect(postgres.urls(name).tenant) as tenant:
        assert tenant.execute("select store from store_identity").fetchone() == (name,)
    able.remove(name)
    with connect(database_urls.owner) as owner:
        query = "select from pg_database where datname = %s"
        assert owner.execute(query, [name]).fetchone() is None
        assert owner.execute("select from tenancy.stores").fetchall() == []


def test_an_owner_who_may_not_is_told_what_to_do(
    preparation: Preparation, other_database: DatabaseUrls
) -> None:
    with pytest.raises(StorePreparationFailed, match="CREATEDB, or give the owner's URL"):
        preparation.prepare(Isolation.DATABASE, name="t_1")
    assert preparation.prepare(Isolation.DATABASE, name="t_1", at=other_database.owner) == "t_1"


def test_a_database_with_tables_is_left_alone(
    preparation: Preparation, other_database: DatabaseUrls, owner: psycopg.Connection
) -> None:
    with connect(other_database.owner) as other:
        other.execute("create table theirs (id int)")
    for at in (other_database.owner, preparation.owner_url):
        with pytest.raises(StoreExists, match="has tables already"):
            preparation.prepare(Isolation.DATABASE, at=at)
    assert owner.execute("select from tenancy.stores").fetchall() == []


def test_a_server_that_is_down_leaves_no_store(
    preparation: Preparation, other_database: DatabaseUrls, owner: psycopg.Connection
) -> None:
    down = other_database.owner.rpartition(":")[0] + ":1/a_store"
    with pytest.raises(DatabaseUnreachable, match="does not answer"):
        preparation.prepare(Isolation.DATABASE, name="t_1", at=down)
    assert owner.execute("select from tenancy.stores").fetchall() == []
    assert preparation.prepare(Isolation.DATABASE, name="t_1", at=other_database.owner) == "t_1"


def test_what_is_missing_is_named_before_anything_is_made(
    preparation: Preparation, owner: psycopg.Connection
) -> None:
    with pytest.raises(StoreRefused, match="secret store"):
        replace(preparation, secrets=None).prepare(Isolation.DATABASE)
    with pytest.raises(StoreRefused, match="URLs of the tenants' and the platform's role"):
        replace(preparation, tenant_url=None).prepare(Isolation.DATABASE)
    with pytest.raises(StoreRefused, match="Leave the URL out"):
        preparation.prepare(Isolation.SCHEMA, at=preparation.owner_url)
    assert owner.execute("select from tenancy.stores").fetchall() == []

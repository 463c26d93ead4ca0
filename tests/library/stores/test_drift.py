"""Drift: tables of a store that its migrations have not made so."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.stores.drift import (
    SCRATCH,
    Drift,
    compared,
    declare_schema,
    declared,
    objects_in,
)
from temporal_tenancy.stores.preparation import Preparation
from tests.library.stores.conftest import Shop

SECOND = (
    "op.execute('alter table orders add price int not null default 0 check (price >= 0)')\n"
    "    op.execute('create index by_price on orders (price)')"
)


@pytest.fixture
def known(
    preparation: Preparation, shop: Shop, database_urls: DatabaseUrls
) -> MigrationEnvironment:
    """The shop, in the schema `t_one`, and what its migrations make."""
    environment = shop(SECOND)
    replace(preparation, application=[environment]).prepare(Isolation.SCHEMA, name="t_one")
    assert declare_schema(database_urls.owner, application=[environment])
    return environment


def drift(owner: psycopg.Connection, environment: MigrationEnvironment) -> Drift:
    made = declared(owner, [environment], schema="tenancy")
    assert made is not None
    return compared(made, objects_in(owner, ["t_one"], {environment.version_table})["t_one"])


def test_a_store_with_the_tables_of_its_migrations_has_no_drift(
    known: MigrationEnvironment, owner: psycopg.Connection, database_urls: DatabaseUrls
) -> None:
    assert declared(owner, [known], schema="tenancy") == (
        "column orders.price integer not null default 0",
        "column orders.tenant_id text",
        "constraint orders.orders_price_check CHECK ((price >= 0))",
        "index orders.by_price CREATE INDEX by_price ON orders USING btree (price)",
        "table orders",
    )
    assert not drift(owner, known)
    assert not declare_schema(database_urls.owner, application=[known])  # known already
    assert owner.execute("select to_regnamespace(%s)", [SCRATCH]).fetchone() == (None,)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("drop index t_one.by_price", "lacks index orders.by_price "),
        ("alter table t_one.orders add by_hand int", "has also column orders.by_hand integer"),
        ("alter table t_one.orders alter price type bigint", "orders.price bigint not null"),
        ("alter table t_one.orders alter price drop not null", "orders.price integer default 0"),
        ("alter table t_one.orders drop constraint orders_price_check", "lacks constraint orders."),
        ("create table t_one.notes ()", "has also table notes"),
        ("drop table t_one.orders", "lacks table orders"),
    ],
)
def test_what_somebody_changed_by_hand_is_found(
    known: MigrationEnvironment, owner: psycopg.Connection, statement: str, found: str
) -> None:
    owner.execute(statement.encode())
    assert found in str(drift(owner, known))


def test_other_tables_beside_the_shared_ones_are_no_drift() -> None:
    made = ["table orders", "column orders.id integer"]
    there = [*made, "table notes", "column notes.id integer"]
    assert not compared(made, there, shared=True)
    assert compared(made, there)


@pytest.mark.parametrize("known_here", ["uuidv7()", "tenancy.uuidv7()"])
@pytest.mark.parametrize("found_there", ["uuidv7()", "tenancy.uuidv7()"])
def test_a_store_on_a_server_of_another_release_has_no_drift(
    known_here: str, found_there: str
) -> None:
    column = "column orders.id uuid not null"
    assert not compared([f"{column} default {known_here}"], [f"{column} default {found_there}"])
    assert compared([f"{column} default {known_here}"], [column])


def test_migrations_that_leave_the_transaction_are_not_run_once_more(
    shop: Shop, database_urls: DatabaseUrls, owner: psycopg.Connection
) -> None:
    body = (
        "with op.get_context().autocommit_block():\n"
        "        op.execute('create index concurrently one on orders (tenant_id)')"
    )
    with pytest.raises(AssertionError):
        declare_schema(database_urls.owner, application=[shop(body)])
    assert owner.execute("select to_regnamespace(%s)", [SCRATCH]).fetchone() == (None,)

"""Migrations of stores: each by itself, and none where nothing is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.installation import Roles
from temporal_tenancy.postgres.migrations import Patience
from temporal_tenancy.postgres.role_checks import STORE_MARK
from temporal_tenancy.postgres.store_roles import stores_group
from temporal_tenancy.stores import _schema_stores
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.upgrading import StoreLeft, UpgradedStores, upgrade_stores
from tests.library.stores.conftest import Shop

ADD = "op.execute('alter table orders add remark text')"
HAVE_REMARKS = """
    select attrelid::regclass::text from pg_attribute where attname = 'remark' order by 1
"""
GROUP = stores_group(Roles())
OTHER = "a_store"  # the database of the fixture, and its store
HURRIED = Patience(
    lock_timeout=timedelta(milliseconds=20),
    tries=2,
    pause=timedelta(0),
    turn=timedelta(milliseconds=100),
)

Upgrade = Callable[[MigrationEnvironment], UpgradedStores]


@pytest.fixture
def upgrade(database_urls: DatabaseUrls) -> Upgrade:
    """Upgrades the stores of the test's database, without waiting long for locks."""
    return lambda shop: upgrade_stores(database_urls.owner, application=[shop], patience=HURRIED)


@pytest.fixture
def two(preparation: Preparation, shop: Shop) -> tuple[str, str]:
    """Two schemas with the shop's first migration."""
    with_shop = replace(preparation, application=[shop(None)])
    for name in ("t_one", "t_two"):
        with_shop.prepare(Isolation.SCHEMA, name=name)
    return "t_one", "t_two"


def revision(owner: psycopg.Connection, store: str) -> str:
    [(found,)] = owner.execute(f"select version_num from {store}.shop_version".encode()).fetchall()
    return str(found)


def test_stores_get_the_migrations_that_they_lack(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    assert upgrade(shop(None)) == UpgradedStores(up_to_date=two)
    assert upgrade(shop(ADD)) == UpgradedStores(migrated=two)
    assert owner.execute(HAVE_REMARKS).fetchall() == [(f"{store}.orders",) for store in two]
    assert upgrade(shop(ADD)) == UpgradedStores(up_to_date=two)


def test_nothing_is_sent_to_a_store_that_is_up_to_date_or_ahead(
    two: tuple[str, str],
    shop: Shop,
    upgrade: Upgrade,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upgrade(shop(ADD))
    owner.execute("update t_two.shop_version set version_num = '0003'")
    monkeypatch.delattr(_schema_stores, "upgrade")
    assert upgrade(shop(ADD)) == UpgradedStores(up_to_date=two)


def test_a_store_whose_migration_fails_stays_behind_alone(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    owner.execute("insert into t_one.orders values ('acme'), ('acme')")
    body = f"{ADD}\n    op.execute('create unique index one on orders (tenant_id)')"
    done = upgrade(shop(body))
    reason = 'UniqueViolation: could not create unique index "one"'
    assert done == UpgradedStores(migrated=("t_two",), left=(StoreLeft("t_one", reason),))
    assert owner.execute(HAVE_REMARKS).fetchall() == [("t_two.orders",)]
    assert (revision(owner, "t_one"), revision(owner, "t_two")) == ("0001", "0002")
    owner.execute("truncate t_one.orders")
    assert upgrade(shop(body)) == UpgradedStores(migrated=("t_one",), up_to_date=("t_two",))


def test_a_migration_that_gives_a_right_outside_the_store_is_undone(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    owner.execute("create table public.elsewhere (tenant_id text)")
    body = (
        f"{ADD}\n    from temporal_tenancy import protect\n"
        "    protect('elsewhere', schema='public')"
    )
    done = upgrade(shop(body))
    assert [store.name for store in done.left] == list(two)
    assert all("ExcessRights: " in store.reason for store in done.left)
    assert owner.execute(HAVE_REMARKS).fetchall() == []


def test_a_store_whose_tables_are_locked_holds_up_no_other(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    with owner.transaction():
        owner.execute("lock t_one.orders in access share mode")
        done = upgrade(shop(ADD))
    reason = "MigrationBlocked: other transactions had tables of t_one locked on 2 tries in a row"
    assert done == UpgradedStores(migrated=("t_two",), left=(StoreLeft("t_one", reason),))
    assert upgrade(shop(ADD)).migrated == ("t_one",)


def test_two_calls_migrate_a_store_one_after_the_other(
    two: tuple[str, str],
    shop: Shop,
    upgrade: Upgrade,
    preparation: Preparation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment, real = shop(ADD), _schema_stores.upgrade
    meanwhile: list[UpgradedStores] = []

    def interrupted(*arguments: Any) -> None:
        monkeypatch.setattr(_schema_stores, "upgrade", real)
        meanwhile.append(upgrade(environment))
        real(*arguments)

    monkeypatch.setattr(_schema_stores, "upgrade", interrupted)
    done = upgrade_stores(preparation.owner_url, application=[environment])
    assert done == UpgradedStores(migrated=("t_one",), up_to_date=("t_two",))
    reason = "MigrationBlocked: another call has been migrating t_one for 0.1 s"
    assert meanwhile == [UpgradedStores(migrated=("t_two",), left=(StoreLeft("t_one", reason),))]


def test_a_store_that_is_being_prepared_is_left_to_its_preparation(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    owner.execute("update tenancy.stores set state = 'preparing' where name = 't_one'")
    assert upgrade(shop(ADD)) == UpgradedStores(migrated=("t_two",))


def test_stores_get_their_rights_on_what_the_librarys_migrations_add(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    may = "select has_any_column_privilege(%s, 'tenancy.processed_events', 'insert')"
    owner.execute(f"revoke all on tenancy.processed_events from {GROUP}".encode())
    assert owner.execute(may, ["t_one"]).fetchone() == (False,)
    upgrade(shop(None))
    assert owner.execute(may, ["t_one"]).fetchone() == (True,)


def test_a_database_is_migrated_if_it_was_made_for_its_store(
    preparation: Preparation,
    other_database: DatabaseUrls,
    shop: Shop,
    upgrade: Upgrade,
    owner: psycopg.Connection,
) -> None:
    with_shop = replace(preparation, application=[shop(None)])
    with_shop.prepare(Isolation.DATABASE, name=OTHER, at=other_database.owner)
    assert upgrade(shop(ADD)) == UpgradedStores(given=(OTHER,))
    with connect(other_database.owner) as there:
        assert there.execute(HAVE_REMARKS).fetchall() == []
        there.execute(f"comment on database {OTHER} is '{STORE_MARK}nobody yet.'".encode())
        assert upgrade(shop(ADD)) == UpgradedStores(migrated=(OTHER,))
        assert there.execute(HAVE_REMARKS).fetchall() == [("orders",)]
    assert upgrade(shop(ADD)) == UpgradedStores(up_to_date=(OTHER,))


def test_a_database_that_takes_no_connections_holds_up_no_other(
    two: tuple[str, str],
    preparation: Preparation,
    database_urls: DatabaseUrls,
    other_database: DatabaseUrls,
    shop: Shop,
    upgrade: Upgrade,
    owner: psycopg.Connection,
) -> None:
    with_shop = replace(preparation, application=[shop(None)])
    with_shop.prepare(Isolation.DATABASE, name=OTHER, at=other_database.owner)
    with connect(database_urls.superuser) as superuser:
        superuser.execute(f"comment on database {OTHER} is '{STORE_MARK}nobody yet.'".encode())
        superuser.execute(f"alter database {OTHER} allow_connections false".encode())
        done = upgrade(shop(ADD))
        superuser.execute(f"alter database {OTHER} allow_connections true".encode())
    reason = "DatabaseUnreachable: it does not answer, or refuses the login"
    assert done == UpgradedStores(migrated=two, left=(StoreLeft(OTHER, reason),))
    written = owner.execute("select failure from tenancy.stores where failure is not null")
    assert written.fetchall() == [(reason,)]
    assert upgrade(shop(ADD)) == UpgradedStores(migrated=(OTHER,), up_to_date=two)


def test_a_server_that_goes_away_ends_the_call(
    two: tuple[str, str], shop: Shop, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: Any) -> None:
        raise DatabaseUnreachable("the database does not answer.")

    monkeypatch.setattr(_schema_stores, "upgrade", gone)
    with pytest.raises(DatabaseUnreachable):
        upgrade(shop(ADD))

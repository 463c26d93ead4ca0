"""A column is renamed over two releases: the code of each runs on the tables of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.stores import migrated_stores, upgrade_stores
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.testing import make_tenant
from tests.fixtures.jobs.suspension_jobs import Impatient
from tests.library.stores.conftest import Shop

BEFORE = "op.execute('alter table orders add note text')"
# Release 2 adds the new column, fills it, and keeps the two the same, whichever is written.
EXPAND = """
    op.execute("alter table orders add remark text")
    op.execute("update orders set remark = note")
    op.execute('''
        create function keep_both() returns trigger language plpgsql as $$
        begin
            if tg_op = 'UPDATE' and new.note is distinct from old.note or new.remark is null then
                new.remark := new.note;
            else
                new.note := new.remark;
            end if;
            return new;
        end $$''')
    op.execute(
        "create trigger keep_both before insert or update on orders "
        "for each row execute function keep_both()"
    )
"""
# Release 3, when no process of release 1 runs any more, drops the old one.
CONTRACT = """
    op.execute("drop trigger keep_both on orders")
    op.execute("drop function keep_both()")
    op.execute("alter table orders drop note")
"""
REVISIONS = {"before": "0002", "expanded": "0003", "contracted": "0004"}

Code = Callable[[psycopg.Connection], list[str]]


def release_1(store: psycopg.Connection) -> list[str]:
    """Changes what there is, adds an order, and returns all."""
    store.execute("update t_one.orders set note = note || '!'")
    store.execute("insert into t_one.orders (tenant_id, note) values ('acme', 'by 1')")
    return [note for (note,) in store.execute("select note from t_one.orders order by 1")]


def release_2(store: psycopg.Connection) -> list[str]:
    """Does the same with the new column; its job declares that it needs it."""
    store.execute("update t_one.orders set remark = remark || '!'")
    store.execute("insert into t_one.orders (tenant_id, remark) values ('acme', 'by 2')")
    return [note for (note,) in store.execute("select remark from t_one.orders order by 1")]


@pytest.fixture
def migrated_to(
    preparation: Preparation, shop: Shop, owner: psycopg.Connection
) -> Callable[[str], MigrationEnvironment]:
    """Brings the store `t_one`, which has an order, to the tables of that name."""
    replace(preparation, application=[shop(BEFORE)]).prepare(Isolation.SCHEMA, name="t_one")
    owner.execute("insert into t_one.orders (tenant_id, note) values ('acme', 'a')")

    def migrated(state: str) -> MigrationEnvironment:
        bodies = {"before": (), "expanded": (EXPAND,), "contracted": (EXPAND, CONTRACT)}[state]
        environment = shop(BEFORE, *bodies)
        assert not upgrade_stores(preparation.owner_url, application=[environment]).left
        return environment

    return migrated


@pytest.mark.parametrize(
    ("state", "releases", "seen"),
    [
        ("before", [release_1], [["a!", "by 1"]]),
        ("expanded", [release_1, release_2], [["a!", "by 1"], ["a!!", "by 1!", "by 2"]]),
        ("expanded", [release_2, release_1], [["a!", "by 2"], ["a!!", "by 1", "by 2!"]]),
        ("contracted", [release_2], [["a!", "by 2"]]),
    ],
)
def test_each_release_runs_before_and_after_the_next_migration(
    migrated_to: Callable[[str], MigrationEnvironment],
    owner: psycopg.Connection,
    state: str,
    releases: list[Code],
    seen: list[list[str]],
) -> None:
    migrated_to(state)
    assert [release(owner) for release in releases] == seen


@pytest.mark.parametrize("state", list(REVISIONS))
def test_the_jobs_of_release_2_wait_until_the_new_column_is_there(
    migrated_to: Callable[[str], MigrationEnvironment], shop: Shop, state: str
) -> None:
    assert Impatient.__name__ == registry["test.impatient"].workflow.__name__
    environment = shop(BEFORE, EXPAND, CONTRACT)
    tenant = make_tenant("acme", schema_versions={"orders": REVISIONS[state]})
    why = migrated_stores([environment]).waits_for
    assert why is not None
    reason = why(tenant, replace(registry["test.impatient"], schema="0003"))
    assert (reason is not None) is (state == "before")

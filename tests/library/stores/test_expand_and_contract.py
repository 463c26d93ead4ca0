"""A column is renamed over two releases: the code of each runs on the tables of both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres import RowsHidden, migrate
from temporal_tenancy.stores import migrated_stores, upgrade_stores
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.testing import make_tenant
from tests.fixtures.jobs.suspension_jobs import Impatient
from tests.library.stores.conftest import Shop

BEFORE = """
    from temporal_tenancy import protect
    op.execute("alter table orders add note text")
    protect("orders")
"""
# Release 2 adds the new column, fills it, and keeps the two the same, whichever is written.
EXPAND = """
    from temporal_tenancy import repairing
    op.execute("alter table orders add remark text")
    with repairing("orders"):
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


@contextmanager
def code_of_a_job(login: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A transaction with the rights and the rows of the store's tenant."""
    with login.transaction():
        login.execute("set local role t_one; set local app.tenant_id = 'acme'")
        yield login


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
    preparation: Preparation, shop: Shop, tenants_login: psycopg.Connection
) -> Callable[[str], MigrationEnvironment]:
    """Brings the store `t_one`, which has an order, to the tables of that name."""
    replace(preparation, application=[shop(BEFORE)]).prepare(Isolation.SCHEMA, name="t_one")
    with code_of_a_job(tenants_login) as store:
        store.execute("insert into t_one.orders (tenant_id, note) values ('acme', 'a')")

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
    tenants_login: psycopg.Connection,
    state: str,
    releases: list[Code],
    seen: list[list[str]],
) -> None:
    migrated_to(state)
    with code_of_a_job(tenants_login) as store:
        assert [release(store) for release in releases] == seen


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


IMPORTS = "from temporal_tenancy import protect, repairing\n"
FOREIGN_KEY = (
    IMPORTS
    + """
    op.execute("create table notes (tenant_id text, note text, primary key (tenant_id, note))")
    protect("notes")
    with repairing({repaired}):
        op.execute("alter table orders add foreign key (tenant_id, note) references notes")
"""
)
PASSING_OVER = {
    "op.execute('update orders set note = null')": "RowsHidden: .*orders.*repairing",
    "op.execute('create table sums as select count(*) from orders')": "RowsHidden: .*orders",
    FOREIGN_KEY.format(repaired="'notes'"): "RowsHidden: .*foreign key",
    FOREIGN_KEY.format(repaired="'orders', 'notes'"): "ForeignKeyViolation: ",
    # After the block it is as before.
    IMPORTS
    + "    with repairing('orders'): pass\n    op.execute('delete from orders')": "RowsHidden",
}


def test_a_migration_does_not_pass_over_rows_in_silence(
    migrated_to: Callable[[str], MigrationEnvironment], preparation: Preparation, shop: Shop
) -> None:
    for body, reason in PASSING_OVER.items():
        environment = shop(BEFORE, body)
        [left] = upgrade_stores(preparation.owner_url, application=[environment]).left
        assert re.match(reason, left.reason), body
    with pytest.raises(RowsHidden):
        migrate(preparation.owner_url, application=[environment])

"""PostgreSQL's row-level security, tested directly: what the tenant role can and cannot do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.connections import connect
from tests.fixtures.modes import InStoreOf, Where

Connection = psycopg.Connection[Any]

SEED = """
    insert into invoices
    select tenant, period, 'USD', 100, 1, now(), now()
    from unnest(array['ua', 'dl']) as tenant, unnest(array['2013-01', '2013-02']) as period
"""


@pytest.fixture
async def place(tenants: Tenants, where: Where) -> tuple[DatabaseUrls, str]:
    """The database of `ua`, and its schema; another tenant's rows are there by mistake."""
    await tenants.add("ua", "United", plan="standard")
    return where("ua")


@pytest.fixture
def superuser(place: tuple[DatabaseUrls, str], in_store_of: InStoreOf) -> Iterator[Connection]:
    with in_store_of("ua") as connection:
        connection.execute(SEED)
        yield connection


@pytest.fixture
def role(place: tuple[DatabaseUrls, str]) -> str:
    """The role whose rights are tested: that of the schema, or all tenants' role."""
    _, schema = place
    return "tenancy_tenant" if schema == "public" else schema


@pytest.fixture
def tenant(
    superuser: Connection, place: tuple[DatabaseUrls, str], role: str
) -> Iterator[Connection]:
    """The tenant role's own connection, with no tenant set."""
    urls, schema = place
    with connect(urls.tenant) as connection:
        if schema != "public":
            connection.execute(
                "select set_config('search_path', %s, false), set_config('role', %s, false)",
                [schema, role],
            )
        yield connection


def as_tenant(connection: Connection, tenant: str, statement: str, *values: object) -> list[Any]:
    with connection.transaction():
        connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def test_with_no_tenant_there_are_no_rows_on_a_fresh_or_a_used_connection(
    tenant: Connection,
) -> None:
    assert tenant.execute("select * from invoices").fetchall() == []
    assert len(as_tenant(tenant, "ua", "select * from invoices")) == 2
    assert tenant.execute("select * from invoices").fetchall() == []
    assert tenant.execute("update invoices set total_cents = 0").rowcount == 0
    assert tenant.execute("delete from invoices").rowcount == 0
    with pytest.raises(errors.InsufficientPrivilege):
        tenant.execute("insert into invoices values ('', '2013-03', 'USD', 1, 1, now(), now())")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into invoices values ('dl', '2013-03', 'USD', 1, 1, now(), now())",
        "insert into invoices select 'dl', '2013-03', 'USD', 1, 1, now(), now()",
        "update invoices set tenant_id = 'dl', period = '2013-03'",
        """
        insert into invoices values ('dl', '2013-01', 'USD', 1, 1, now(), now())
        on conflict do nothing
        """,
        """
        insert into invoices values ('dl', '2013-01', 'USD', 1, 1, now(), now())
        on conflict (tenant_id, period) do update set total_cents = 0
        """,
        """
        insert into invoices values ('ua', '2013-01', 'USD', 1, 1, now(), now())
        on conflict (tenant_id, period) do update set tenant_id = 'dl', period = '2013-03'
        """,
        """
        merge into invoices using (select 1) as one on period = '2013-03'
        when not matched then insert values ('dl', '2013-03', 'USD', 1, 1, now(), now())
        """,
        """
        merge into invoices using (select 1) as one on period = '2013-01'
        when matched then update set tenant_id = 'dl', period = '2013-03'
        """,
        """
        with moved as (delete from invoices returning *)
        insert into invoices
        select 'dl', '2013-03', 'USD', 1, 1, now(), now() from moved
        """,
    ],
)
def test_no_statement_writes_another_tenants_row(
    superuser: Connection, tenant: Connection, statement: str
) -> None:
    contents = "select tenant_id, period, total_cents from invoices order by 1, 2"
    before = superuser.execute(contents).fetchall()
    with pytest.raises(errors.InsufficientPrivilege):
        as_tenant(tenant, "ua", statement)
    assert superuser.execute(contents).fetchall() == before


@pytest.mark.parametrize(
    "statement",
    [
        "alter table invoices disable row level security",
        "drop policy tenant_isolation on invoices",
        "create policy wide on invoices using (true)",
        "truncate invoices",
        "create trigger t before insert on invoices execute function suppress_redundant_updates()",
        "vacuum invoices",
        "create table mine (i int)",
        "create view mine as table invoices",
        "set role tenancy_platform",
        "set role tenancy_owner",
        "set session authorization postgres",
        "select * from tenancy.tenants",
        "select * from tenancy.ledger",
        "copy invoices from stdin",
        "select pg_read_file('/etc/passwd')",
        "copy (select 1) to program 'true'",
    ],
)
def test_the_tenant_role_cannot_do_more_than_its_part(tenant: Connection, statement: str) -> None:
    refused = (errors.InsufficientPrivilege, errors.FeatureNotSupported)
    if statement.startswith("vacuum"):
        notices: list[str] = []
        tenant.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        tenant.execute("vacuum invoices")
        refused_to = re.compile("permission denied|only table or database owner can vacuum it")
        assert any(refused_to.search(notice) for notice in notices)
        return
    with pytest.raises(refused):
        tenant.execute(statement)


def test_row_security_switched_off_makes_queries_fail(tenant: Connection) -> None:
    tenant.execute("set row_security = off")
    with pytest.raises(errors.InsufficientPrivilege):
        as_tenant(tenant, "ua", "select * from invoices")


def test_the_owner_sees_no_rows(superuser: Connection, place: tuple[DatabaseUrls, str]) -> None:
    urls, schema = place
    with connect(urls.owner) as owner:
        assert owner.execute(f"select * from {schema}.invoices".encode()).fetchall() == []


def test_the_platform_role_cannot_read_tenants_rows(
    superuser: Connection, place: tuple[DatabaseUrls, str]
) -> None:
    urls, schema = place
    with connect(urls.platform) as platform, pytest.raises(errors.InsufficientPrivilege):
        as_tenant(platform, "ua", f"select * from {schema}.invoices")


def test_a_wider_policy_beside_ours_shows_nothing_more(
    superuser: Connection, tenant: Connection
) -> None:
    superuser.execute("create policy wide on invoices using (true) with check (true)")
    assert len(as_tenant(tenant, "ua", "select * from invoices")) == 2
    assert tenant.execute("select * from invoices").fetchall() == []


@pytest.mark.parametrize(("option", "rows"), [("", 4), ("with (security_invoker = true)", 2)])
def test_a_view_shows_its_owners_rows_unless_it_runs_as_the_caller(
    superuser: Connection, tenant: Connection, role: str, option: str, rows: int
) -> None:
    superuser.execute(
        f"create view seen {option} as table invoices; grant select on seen to {role}".encode()
    )
    assert len(as_tenant(tenant, "ua", "select * from seen")) == rows


def test_a_foreign_key_does_not_tell_whether_another_tenants_row_exists(
    superuser: Connection, tenant: Connection
) -> None:
    superuser.execute("delete from invoices where tenant_id = 'ua'")
    line = "insert into invoice_lines values ('ua', %s, 'r', 1, 1, 1)"
    messages = []
    for period in ("2013-01", "2030-01"):  # dl has the first, and nobody has the second
        with pytest.raises(errors.ForeignKeyViolation) as caught:
            as_tenant(tenant, "ua", line, period)
        messages.append(str(caught.value).replace(period, "P"))
    assert messages[0] == messages[1]


def test_two_tenants_may_use_the_same_key(tenant: Connection) -> None:
    insert = """
        insert into invoices
        values (current_setting('app.tenant_id'), '2013-09', 'USD', 1, 1, now(), now())
        on conflict do nothing returning 1
    """
    assert as_tenant(tenant, "ua", insert) == [(1,)]
    assert as_tenant(tenant, "dl", insert) == [(1,)]


def test_a_cheap_function_in_a_condition_sees_own_rows_only(
    superuser: Connection, tenant: Connection, role: str
) -> None:
    superuser.execute("""
        create function f_leak(text) returns boolean language plpgsql cost 0.0000001
            as 'begin raise notice ''%'', $1; return true; end'
    """)
    superuser.execute(f"grant execute on function f_leak(text) to {role}".encode())
    seen: list[str | None] = []
    tenant.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    as_tenant(tenant, "ua", "select * from invoices where f_leak(tenant_id)")
    assert set(seen) == {"ua"}


def test_an_error_in_a_condition_is_not_raised_by_another_tenants_row(
    superuser: Connection, tenant: Connection
) -> None:
    superuser.execute("update invoices set total_cents = 0 where tenant_id = 'dl'")
    assert len(as_tenant(tenant, "ua", "select * from invoices where 1 / total_cents = 0")) == 2


def test_statistics_of_a_protected_table_are_not_shown(
    superuser: Connection, tenant: Connection
) -> None:
    superuser.execute("analyze invoices")
    stats = "select most_common_vals from pg_stats where tablename = 'invoices'"
    assert superuser.execute(stats).fetchall() != []
    assert as_tenant(tenant, "ua", stats) == []


def test_copy_out_gives_the_tenants_rows_only(tenant: Connection) -> None:
    with tenant.transaction():
        tenant.execute("select set_config('app.tenant_id', 'ua', true)")
        with tenant.cursor().copy("copy invoices (tenant_id) to stdout") as copy:
            assert set(copy.rows()) == {("ua",)}


def test_a_partition_cannot_be_asked_directly(
    superuser: Connection, tenant: Connection, role: str
) -> None:
    superuser.execute("""
        create table parted (tenant_id text not null, day date, primary key (tenant_id, day))
            partition by range (day);
        create table parted_2013 partition of parted
            for values from ('2013-01-01') to ('2014-01-01')
    """)
    superuser.execute(f"grant select on parted to {role}".encode())
    with pytest.raises(errors.InsufficientPrivilege):
        as_tenant(tenant, "ua", "select * from parted_2013")


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
def test_a_prepared_statement_follows_the_tenant(tenant: Connection, plan: str) -> None:
    tenant.prepare_threshold = 0
    tenant.execute("select set_config('plan_cache_mode', %s, false)", [plan])
    for turn in range(2_000):
        name = ("ua", "dl")[turn % 2]
        rows = as_tenant(tenant, name, "select tenant_id from invoices where total_cents > %s", 0)
        assert rows == [(name,)] * 2


def test_a_trigger_that_moves_rows_to_another_tenant_is_refused(
    superuser: Connection, tenant: Connection
) -> None:
    superuser.execute("""
        create function move() returns trigger language plpgsql
            as 'begin new.tenant_id = ''dl''; return new; end';
        create trigger move before insert on invoices for each row execute function move()
    """)
    with pytest.raises(errors.InsufficientPrivilege):
        as_tenant(
            tenant,
            "ua",
            "insert into invoices values ('ua', '2013-03', 'USD', 1, 1, now(), now())",
        )


def test_a_statement_with_parameters_is_one_statement(tenant: Connection) -> None:
    with pytest.raises(errors.SyntaxError):
        as_tenant(tenant, "ua", "select %s; select set_config('app.tenant_id', 'dl', true)", "x")

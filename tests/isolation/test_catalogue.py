"""The catalogue lint: silent on what the migrations make, and loud about each fault by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from database.models import TENANT_DATA
from devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy import catalogue
from temporal_tenancy.catalogue import Finding, passwordless_logins, refuse_excess_rights
from temporal_tenancy.connections import connect
from temporal_tenancy.database_errors import ExcessRights
from temporal_tenancy.migration_environment import LIBRARY

Superuser = psycopg.Connection[Any]


def lint(connection: psycopg.Connection[Any], allowed: Collection[str] = ()) -> list[Finding]:
    return catalogue.lint(connection, environments=[*LIBRARY, TENANT_DATA], allowed=allowed)


@pytest.fixture(scope="module")
def shared_urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    yield postgres.create_database("catalogue", template=migrated_template)
    postgres.drop_database("catalogue")


@pytest.fixture
def superuser(shared_urls: DatabaseUrls) -> Iterator[Superuser]:
    """A superuser in a transaction that is rolled back, so that faults leave no trace."""
    with (
        connect(shared_urls.superuser) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection


@pytest.mark.parametrize("role", ["owner", "tenant", "platform", "superuser"])
def test_what_the_migrations_make_is_without_findings(shared_urls: DatabaseUrls, role: str) -> None:
    with connect(getattr(shared_urls, role)) as connection:
        assert lint(connection) == []


UNPROTECTED: LiteralString = """
    create table notes (tenant_id text not null, id uuid, primary key (tenant_id, id));
    alter table notes owner to tenancy_owner;
"""
PROTECTED: LiteralString = (
    UNPROTECTED
    + """
    alter table notes enable row level security;
    alter table notes force row level security;
    create policy tenant_isolation on notes as restrictive to tenancy_tenant
        using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
        with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
    create policy tenant_access on notes as permissive to tenancy_tenant
        using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
        with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
    grant select, insert, update, delete on notes to tenancy_tenant;
"""
)

# What is wrong, who finds it, and in what.
FAULTS: list[tuple[str, LiteralString, str]] = [
    ("role-attribute", "alter role tenancy_tenant superuser", "tenancy_tenant"),
    ("role-attribute", "alter role tenancy_tenant bypassrls", "tenancy_tenant"),
    ("role-attribute", "alter role tenancy_platform bypassrls", "tenancy_platform"),
    ("role-attribute", "alter role tenancy_tenant replication", "tenancy_tenant"),
    ("role-attribute", "alter role tenancy_tenant createrole", "tenancy_tenant"),
    ("role-attribute", "alter role tenancy_tenant createdb", "tenancy_tenant"),
    ("role-membership", "grant tenancy_platform to tenancy_tenant", "tenancy_tenant"),
    (
        "role-membership",
        "create role mighty bypassrls; grant mighty to tenancy_tenant with inherit false",
        "tenancy_tenant",
    ),
    ("role-membership", "grant pg_read_all_data to tenancy_tenant", "tenancy_tenant"),
    ("role-owns", "alter table invoices owner to tenancy_tenant", "invoices"),
    ("role-owns", "create schema s authorization tenancy_tenant", "schema s"),
    ("role-owns", "alter database catalogue owner to tenancy_tenant", "database catalogue"),
    ("role-creates", "grant create on schema public to tenancy_tenant", "schema public"),
    ("role-creates", "grant create on database catalogue to tenancy_tenant", "database catalogue"),
    ("role-missing", "alter role tenancy_platform rename to somebody", "tenancy_platform"),
    ("row-security-off", UNPROTECTED, "notes"),
    ("row-security-off", "alter table invoices disable row level security", "invoices"),
    ("row-security-not-forced", "alter table invoices no force row level security", "invoices"),
    ("policy-missing", "drop policy tenant_access on invoices", "invoices"),
    ("policy-missing", "drop policy tenant_isolation on invoices", "invoices"),
    ("policy-altered", "alter policy tenant_access on invoices to public", "invoices"),
    ("policy-altered", "alter policy tenant_access on invoices to tenancy_owner", "invoices"),
    ("policy-altered", "alter policy tenant_isolation on invoices using (true)", "invoices"),
    ("policy-altered", "alter policy tenant_isolation on invoices with check (true)", "invoices"),
    (
        "policy-altered",
        """
        alter policy tenant_access on invoices
            using (tenant_id = current_setting('app.tenant_id', true))
        """,
        "invoices",
    ),
    (
        "policy-altered",
        """
        drop policy tenant_isolation on invoices;
        create policy tenant_isolation on invoices as restrictive to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
        """,
        "invoices",
    ),
    (
        "policy-altered",
        """
        drop policy tenant_isolation on invoices;
        create policy tenant_isolation on invoices as permissive to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
            with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
        """,
        "invoices",
    ),
    ("policy-extra", "create policy wide on invoices using (true)", "invoices"),
    ("policy-extra", "create policy wide on invoices to tenancy_platform using (true)", "invoices"),
    (
        "tenant-id-nullable",
        "create table notes (tenant_id text, id uuid primary key)",
        "notes",
    ),
    ("primary-key", "alter table invoice_lines drop constraint pk_invoice_lines", "invoice_lines"),
    ("primary-key", "create table n (tenant_id text, id uuid, primary key (id, tenant_id))", "n"),
    ("unique-without-tenant", "create unique index u on invoices (period)", "invoices"),
    (
        "unique-without-tenant",
        "create unique index u on invoices (period) include (tenant_id)",
        "invoices",
    ),
    ("index-order", "create index i on invoices (period, tenant_id)", "invoices"),
    ("index-order", "create index i on invoices (lower(tenant_id))", "invoices"),
    (
        "foreign-key",
        PROTECTED
        + """
        alter table invoices add column note uuid;
        create unique index u on notes (id);
        alter table invoices add constraint fk foreign key (note) references notes (id)
        """,
        "invoices",
    ),
    (
        "foreign-key",
        PROTECTED
        + """
        alter table invoices add column other text, add column note uuid;
        alter table invoices add constraint fk foreign key (other, note) references notes
        """,
        "invoices",
    ),
    (
        "trigger",
        """
        create function move() returns trigger language plpgsql
            as 'begin new.tenant_id = ''dl''; return new; end';
        create trigger move before insert on invoices for each row execute function move()
        """,
        "invoices",
    ),
    (
        "rule",
        "create rule aside as on delete to invoices do instead nothing",
        "invoices",
    ),
    ("grant-beyond-rows", "grant truncate on invoices to tenancy_tenant", "invoices"),
    ("grant-beyond-rows", "grant references on invoices to tenancy_tenant", "invoices"),
    ("grant-beyond-rows", "grant references (period) on invoices to tenancy_tenant", "invoices"),
    ("grant-beyond-rows", "grant trigger on invoices to tenancy_tenant", "invoices"),
    ("grant-beyond-rows", "grant maintain on invoices to tenancy_tenant", "invoices"),
    ("grant-beyond-rows", "grant truncate on ledger to tenancy_platform", "ledger"),
    (
        "child-granted",
        """
        create table parted (tenant_id text not null, day date, primary key (tenant_id, day))
            partition by range (day);
        create table parted_2013 partition of parted
            for values from ('2013-01-01') to ('2014-01-01');
        grant select on parted_2013 to tenancy_tenant
        """,
        "parted_2013",
    ),
    ("tenant-role-beyond-its-tables", "grant select on tenants to tenancy_tenant", "tenants"),
    ("tenant-role-beyond-its-tables", "grant select on ledger to tenancy_tenant", "ledger"),
    ("tenant-role-beyond-its-tables", "grant select (id) on tenants to tenancy_tenant", "tenants"),
    (
        "tenant-role-beyond-its-tables",
        "grant update on tenant_data_version to tenancy_tenant",
        "tenant_data_version",
    ),
    (
        "tenant-role-beyond-its-tables",
        "create table untold (id int primary key); grant select on untold to tenancy_tenant",
        "untold",
    ),
    (
        "tenant-role-writes-the-platforms",
        "grant insert on outbox_messages to tenancy_tenant",
        "outbox_messages",
    ),
    (
        "tenant-role-writes-the-platforms",
        "grant update (handled_by) on dead_letters to tenancy_tenant",
        "dead_letters",
    ),
    (
        "tenant-role-writes-the-platforms",
        "grant update on processed_events to tenancy_tenant",
        "processed_events",
    ),
    (
        "check-missing",
        "alter table dead_letters drop constraint ck_dead_letters_owner",
        "dead_letters",
    ),
    (
        "check-missing",
        """
        alter table outbox_messages drop constraint ck_outbox_messages_times;
        alter table outbox_messages add constraint ck_outbox_messages_times
            check (created_at < 'infinity') not valid
        """,
        "outbox_messages",
    ),
    ("trigger-missing", "drop trigger tenants_update on dead_letters", "dead_letters"),
    (
        "trigger-missing",
        "alter table outbox_messages disable trigger tenants_insert",
        "outbox_messages",
    ),
    (
        "platform-role-on-tenants-rows",
        "grant select on invoices to tenancy_platform",
        "invoices",
    ),
    (
        "platform-role-on-tenants-rows",
        "grant select (total_cents) on invoices to tenancy_platform",
        "invoices",
    ),
    (
        "view",
        "create view all_invoices as table invoices; grant select on all_invoices to public",
        "all_invoices",
    ),
    (
        "view",
        """
        create view all_invoices with (security_invoker = off) as table invoices;
        grant select on all_invoices to tenancy_tenant
        """,
        "all_invoices",
    ),
    (
        "materialized-view",
        """
        create materialized view all_invoices as table invoices;
        grant select on all_invoices to tenancy_tenant
        """,
        "all_invoices",
    ),
    ("sequence", "create sequence s; grant usage on s to tenancy_tenant", "s"),
    (
        "security-definer",
        """
        create function total() returns bigint language sql security definer
            as 'select sum(total_cents)::bigint from invoices';
        grant execute on function total() to tenancy_tenant
        """,
        "total()",
    ),
    ("public-grant", "grant select on plans to public", "relation plans"),
    ("public-grant", "grant usage on schema public to public", "schema public"),
    ("public-grant", "grant connect on database catalogue to public", "database catalogue"),
    (
        "default-privileges",
        "alter default privileges for role tenancy_owner grant select on tables to tenancy_tenant",
        "tenancy_owner",
    ),
    (
        "default-privileges",
        "alter default privileges for role tenancy_owner grant select on tables to public",
        "tenancy_owner",
    ),
]


@pytest.mark.parametrize(("check", "fault", "name"), FAULTS, ids=lambda value: value[:60])
def test_a_fault_is_found(
    superuser: Superuser, check: str, fault: LiteralString, name: str
) -> None:
    superuser.execute(fault)
    found = [finding for finding in lint(superuser) if finding.check == check]
    assert name in [finding.object for finding in found]
    assert all(finding.message.endswith(".") for finding in found)


@pytest.mark.parametrize(
    "sound",
    [
        PROTECTED,
        # Not the tenant's: no tenant_id, and no rights on it.
        "create table airports (code text primary key)",
        """
        create view my_invoices with (security_invoker = on) as table invoices;
        grant select on my_invoices to tenancy_tenant
        """,
        # A partition that only its parent gives access to.
        """
        create table parted (tenant_id text not null, day date, primary key (tenant_id, day))
            partition by range (day);
        alter table parted enable row level security;
        alter table parted force row level security;
        create policy tenant_isolation on parted as restrictive to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
            with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
        create policy tenant_access on parted as permissive to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
            with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
        create table parted_2013 partition of parted
            for values from ('2013-01-01') to ('2014-01-01');
        """,
    ],
)
def test_what_is_sound_is_not_found(superuser: Superuser, sound: LiteralString) -> None:
    superuser.execute(sound)
    assert lint(superuser) == []


def test_what_is_allowed_by_name_is_not_found(superuser: Superuser) -> None:
    superuser.execute("""
        create index dequeue on invoices (issued_at);
        create function sane() returns int language sql security definer
            set search_path = pg_catalog as 'select 1';
        grant execute on function sane() to tenancy_tenant
    """)
    assert {finding.check for finding in lint(superuser)} == {"index-order", "security-definer"}
    assert lint(superuser, allowed=["dequeue", "sane"]) == []


@pytest.mark.parametrize("role", ["tenant", "platform"])
def test_a_runtime_role_as_it_is_made_may_start(shared_urls: DatabaseUrls, role: str) -> None:
    with connect(getattr(shared_urls, role)) as connection:
        refuse_excess_rights(connection)


@pytest.mark.parametrize("role", ["owner", "superuser"])
def test_a_role_with_too_many_rights_may_not_start(shared_urls: DatabaseUrls, role: str) -> None:
    with connect(getattr(shared_urls, role)) as connection, pytest.raises(ExcessRights):
        refuse_excess_rights(connection)


def test_a_login_without_a_password_is_found(
    postgres: EmbeddedPostgres, shared_urls: DatabaseUrls
) -> None:
    settings = postgres.data / "pg_hba.conf"
    before = settings.read_text()
    trust = "host catalogue tenancy_tenant 127.0.0.1/32 trust\n"
    with connect(shared_urls.superuser) as superuser:
        try:
            settings.write_text(trust + before)
            superuser.execute("select pg_reload_conf()")
            # The server reads the file when it gets round to it.
            while not (found := passwordless_logins(superuser)):
                pass
            assert [finding.object for finding in found] == ["tenancy_tenant"]
        finally:
            settings.write_text(before)
            superuser.execute("select pg_reload_conf()")
            while passwordless_logins(superuser):
                pass

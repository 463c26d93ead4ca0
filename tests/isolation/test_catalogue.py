"""The catalogue lint: it finds nothing in what the migrations make, and each single fault."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from saas.database.environment import TENANT_DATA
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.lint import catalogue
from temporal_tenancy.lint.catalogue import Finding, passwordless_logins, refuse_excess_rights
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import ExcessRights
from tests.fixtures.postgres import server_version

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

# Before 16 the role itself says it: it does not inherit.
WITHOUT_INHERITING: LiteralString = " with inherit false" if server_version() >= 16 else ""
# The check that finds the fault, the fault, and the object that it is in.
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
        "create role mighty bypassrls; grant mighty to tenancy_tenant" + WITHOUT_INHERITING,
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
    # An application's table with the name of one of the library's has no exemptions.
    ("row-security-off", "alter table public.ledger add column tenant_id text", "ledger"),
    (
        "policy-extra",
        """
        alter table public.outbox_messages add column tenant_id text;
        create policy relay_access on public.outbox_messages to tenancy_relay using (true)
        """,
        "outbox_messages",
    ),
    (
        "index-order",
        """
        alter table public.dead_letters add column tenant_id text;
        create index ix_dead_letters_untold on public.dead_letters (theirs)
        """,
        "dead_letters",
    ),
    (
        "shared-table",
        "grant select on public.control_plane_version to tenancy_tenant",
        "control_plane_version",
    ),
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
    *(
        [("grant-beyond-rows", "grant maintain on invoices to tenancy_tenant", "invoices")]
        if server_version() >= 17
        else []
    ),
    ("grant-beyond-rows", "grant truncate on tenancy.ledger to tenancy_platform", "tenancy.ledger"),
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
    (
        "tenant-role-beyond-its-tables",
        "grant select on tenancy.tenants to tenancy_tenant",
        "tenancy.tenants",
    ),
    (
        "tenant-role-beyond-its-tables",
        "grant select on tenancy.ledger to tenancy_tenant",
        "tenancy.ledger",
    ),
    (
        "tenant-role-beyond-its-tables",
        "grant select (id) on tenancy.tenants to tenancy_tenant",
        "tenancy.tenants",
    ),
    (
        "tenant-role-beyond-its-tables",
        "grant update on tenant_data_version to tenancy_tenant",
        "tenant_data_version",
    ),
    (
        "shared-table",
        "create table untold (id int primary key); grant select on untold to tenancy_tenant",
        "untold",
    ),
    (
        "tenant-role-writes-the-platforms",
        "grant insert on tenancy.outbox_messages to tenancy_tenant",
        "tenancy.outbox_messages",
    ),
    (
        "tenant-role-writes-the-platforms",
        "grant update (handled_by) on tenancy.dead_letters to tenancy_tenant",
        "tenancy.dead_letters",
    ),
    (
        "tenant-role-writes-the-platforms",
        "grant update on tenancy.processed_events to tenancy_tenant",
        "tenancy.processed_events",
    ),
    (
        "check-missing",
        "alter table tenancy.dead_letters drop constraint ck_dead_letters_owner",
        "tenancy.dead_letters",
    ),
    (
        "check-missing",
        """
        alter table tenancy.outbox_messages drop constraint ck_outbox_messages_times;
        alter table tenancy.outbox_messages add constraint ck_outbox_messages_times
            check (created_at < 'infinity') not valid
        """,
        "tenancy.outbox_messages",
    ),
    (
        "trigger-missing",
        "drop trigger tenants_update on tenancy.dead_letters",
        "tenancy.dead_letters",
    ),
    (
        "trigger-missing",
        "alter table tenancy.outbox_messages disable trigger tenants_insert",
        "tenancy.outbox_messages",
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
    ("public-grant", "grant select on tenancy.plans to public", "relation tenancy.plans"),
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


EVIL: LiteralString = """
    create function evil() returns text language plpgsql as 'begin return 1; end';
"""
EVIL_TRIGGER: LiteralString = """
    create function copied() returns trigger language plpgsql security definer
        as 'begin return null; end';
"""
FOREIGN: LiteralString = """
    create foreign data wrapper w; create server elsewhere foreign data wrapper w;
"""

# Whatever opens or feeds a table past its policy, and runs or is set automatically.
OPENINGS: list[tuple[str, LiteralString, str]] = [
    ("role-setting", "alter role tenancy_tenant set app.tenant_id = 'ua'", "tenancy_tenant"),
    ("role-setting", "alter role tenancy_tenant set \"App.Tenant_ID\" = 'ua'", "tenancy_tenant"),
    (
        "role-setting",
        "alter role tenancy_relay in database catalogue set app.tenant_id = 'ua'",
        "tenancy_relay",
    ),
    ("role-setting", "alter database catalogue set app.tenant_id = 'ua'", "everybody"),
    ("role-setting", "alter role all set app.tenant_id = 'ua'", "everybody"),
    ("role-setting", "alter role tenancy_tenant set role = tenancy_platform", "tenancy_tenant"),
    ("role-setting", "alter role tenancy_tenant set row_security = off", "tenancy_tenant"),
    (
        "role-setting",
        "alter role tenancy_tenant set session_replication_role = replica",
        "tenancy_tenant",
    ),
    ("role-setting", "alter database catalogue set search_path = other, public", "everybody"),
    (
        "role-setting",
        "alter role tenancy_tenant set local_preload_libraries = 'hook'",
        "tenancy_tenant",
    ),
    ("role-setting", "alter role tenancy_tenant set statement_timeout = 0", "tenancy_tenant"),
    (
        "parameter-granted",
        "grant set on parameter session_replication_role to tenancy_tenant",
        "session_replication_role",
    ),
    (
        "function-setting",
        """
        create function peek() returns bigint language sql set app.tenant_id = 'ua'
            as 'select count(*) from invoices';
        grant execute on function peek() to tenancy_tenant
        """,
        "peek()",
    ),
    (
        "function-setting",
        """
        create function switch() returns text language sql
            begin atomic select set_config('app.tenant_id', 'ua', true); end;
        grant execute on function switch() to tenancy_tenant
        """,
        "switch()",
    ),
    (
        "role-owns",
        "create domain d as text; alter domain d owner to tenancy_tenant",
        "type d",
    ),
    (
        "trigger",
        EVIL_TRIGGER
        + """
        create trigger copied after insert on invoices for each row execute function copied()
        """,
        "invoices",
    ),
    (
        "trigger",
        EVIL_TRIGGER
        + """
        create constraint trigger copied after update on contacts deferrable initially deferred
            for each row execute function copied()
        """,
        "contacts",
    ),
    (
        "calls",
        EVIL_TRIGGER
        + "create trigger c after insert on tenancy.ledger for each row execute function copied()",
        "tenancy.ledger",
    ),
    (
        "calls",
        EVIL_TRIGGER
        + """
        create view mine with (security_invoker = on) as table invoices;
        create trigger c instead of insert on mine for each row execute function copied()
        """,
        "mine",
    ),
    (
        "calls",
        EVIL_TRIGGER
        + """
        create or replace trigger tenants_update before update on tenancy.dead_letters
            for each row execute function copied()
        """,
        "tenancy.dead_letters",
    ),
    (
        "calls",
        """
        create or replace function tenancy.refuse_write() returns trigger language plpgsql
            as 'begin return new; end'
        """,
        "tenancy.dead_letters",
    ),
    ("calls", "alter function tenancy.key_from_id() security definer", "tenancy.outbox_messages"),
    ("calls", EVIL + "alter table invoices alter period set default evil()", "invoices"),
    (
        "calls",
        EVIL + "alter table invoices add constraint c check (evil() <> period) not valid",
        "invoices",
    ),
    (
        "calls",
        EVIL
        + """
        create domain d as text check (evil() <> value);
        alter table invoices add column d d[]
        """,
        "invoices",
    ),
    (
        "calls",
        EVIL
        + """
        alter function evil() immutable;
        alter table invoices add column e text generated always as (evil()) stored
        """,
        "invoices",
    ),
    (
        "calls",
        EVIL + "alter function evil() immutable; create index i on invoices (tenant_id, evil())",
        "invoices",
    ),
    (
        "calls",
        EVIL
        + """
        alter function evil() immutable;
        create statistics odd on (period || evil()), tenant_id from invoices
        """,
        "invoices",
    ),
    ("calls", EVIL + "create policy p on invoices to public using (evil() = '')", "invoices"),
    (
        "calls",
        """
        create function same(text, text) returns boolean language plpgsql
            as 'begin return true; end';
        create operator === (function = same, leftarg = text, rightarg = text);
        alter table invoices add constraint c check (period === 'x') not valid
        """,
        "invoices",
    ),
    (
        "calls-volatile",
        """
        alter table invoices alter period set default set_config('app.tenant_id', 'ua', true)
        """,
        "invoices",
    ),
    (
        "calls-volatile",
        """
        alter table invoices add constraint c
            check (set_config('app.tenant_id', 'ua', true) <> '') not valid
        """,
        "invoices",
    ),
    (
        "calls-volatile",
        "create domain d as text check (set_config('app.tenant_id', value, true) <> '')",
        "d",
    ),
    (
        "calls-volatile",
        """
        create or replace trigger tenants_insert before insert on tenancy.outbox_messages
            for each row when (set_config('app.tenant_id', 'ua', true) = '')
            execute function tenancy.refuse_write('')
        """,
        "tenancy.outbox_messages",
    ),
    (
        "leakproof",
        """
        create function told(text) returns boolean language plpgsql leakproof cost 0.0001
            as 'begin raise notice ''%'', $1; return true; end';
        grant execute on function told(text) to tenancy_tenant
        """,
        "told(text)",
    ),
    (
        "function-untrusted",
        """
        create function reads(text) returns text language internal as 'pg_read_file_all';
        grant execute on function reads(text) to tenancy_platform
        """,
        "reads(text)",
    ),
    (
        "security-definer",
        """
        create schema s;
        create procedure s.p() language sql security definer as 'select 1';
        grant execute on procedure s.p() to tenancy_relay
        """,
        "s.p()",
    ),
    (
        "security-definer",
        """
        create function pg_catalog.total() returns int language sql security definer
            as 'select 1';
        grant execute on function pg_catalog.total() to tenancy_tenant
        """,
        "total()",
    ),
    (
        "security-definer",
        """
        create function step(bigint, text) returns bigint language sql security definer
            as 'select 1::bigint';
        create aggregate gathered(text) (sfunc = step, stype = bigint);
        grant execute on function gathered(text) to tenancy_tenant
        """,
        "gathered(text)",
    ),
    (
        "shadow",
        """
        create function lower(varchar) returns text language sql as 'select $1::text';
        grant execute on function public.lower(varchar) to tenancy_tenant
        """,
        "function lower(character varying)",
    ),
    (
        "shadow",
        """
        create function same(text, varchar) returns boolean language sql as 'select true';
        create operator public.= (function = same, leftarg = text, rightarg = varchar);
        grant execute on function same(text, varchar) to tenancy_tenant
        """,
        "operator =(text,character varying)",
    ),
    (
        "shadow",
        """
        create function day(text) returns date language sql as 'select current_date';
        grant execute on function day(text) to tenancy_tenant;
        create cast (text as date) with function day(text) as implicit
        """,
        "cast from text to date",
    ),
    ("shadow", "create schema tenancy_tenant", "schema tenancy_tenant"),
    (
        "rule",
        "create rule also as on insert to tenancy.ledger do also delete from invoices",
        "tenancy.ledger",
    ),
    (
        "event-trigger",
        """
        create function seen() returns event_trigger language plpgsql as 'begin end';
        create event trigger seen on ddl_command_end execute function seen()
        """,
        "seen",
    ),
    ("publication", "create publication everything for all tables", "invoices"),
    ("publication", "create publication few for table contacts (tenant_id, id)", "contacts"),
    ("publication", "create publication few for tables in schema tenancy", "tenancy.ledger"),
    (
        "subscription",
        "create subscription fed connection 'dbname=x' publication p with (connect = false)",
        "fed",
    ),
    (
        "foreign",
        FOREIGN + "create user mapping for tenancy_tenant server elsewhere",
        "server elsewhere",
    ),
    ("foreign", FOREIGN + "grant usage on foreign server elsewhere to public", "server elsewhere"),
    ("foreign", FOREIGN + "grant usage on foreign data wrapper w to tenancy_relay", "wrapper w"),
    (
        "foreign",
        FOREIGN
        + """
        create foreign table far (id int) server elsewhere;
        grant select on far to tenancy_platform
        """,
        "foreign table far",
    ),
    (
        "child-of-anothers",
        "create table more () inherits (invoices)",
        "more",
    ),
    (
        "child-of-anothers",
        FOREIGN + "create foreign table far () inherits (invoices) server elsewhere",
        "far",
    ),
    (
        "large-object",
        "select lo_create(7777); grant select on large object 7777 to tenancy_tenant",
        "7777",
    ),
    ("large-object", "set local role tenancy_tenant; select lo_create(7777); reset role", "7777"),
    (
        "system-granted",
        "grant execute on function pg_read_file(text) to tenancy_tenant",
        "pg_read_file(text)",
    ),
    ("system-granted", "grant select on pg_statistic to tenancy_tenant", "pg_statistic"),
    ("system-granted", "grant select (rolpassword) on pg_authid to public", "pg_authid"),
    ("system-granted", "grant create on schema pg_catalog to tenancy_tenant", "pg_catalog"),
    (
        "foreign-key-off",
        "alter table invoice_lines disable trigger all",
        "invoice_lines",
    ),
    (
        "tenant-id-collation",
        """
        create collation blind from "C";
        update pg_collation set collisdeterministic = false where collname = 'blind';
        create table notes (tenant_id text collate blind not null, primary key (tenant_id))
        """,
        "notes",
    ),
]


@pytest.mark.parametrize(
    ("check", "fault", "name"), [*FAULTS, *OPENINGS], ids=lambda value: value[:60]
)
def test_a_fault_is_found(
    superuser: Superuser, check: str, fault: LiteralString, name: str
) -> None:
    superuser.execute(fault)
    found = [finding for finding in lint(superuser) if finding.check == check]
    assert name in [finding.object for finding in found]
    assert all(finding.message.endswith(".") for finding in found)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seeded=st.lists(st.sampled_from(OPENINGS), min_size=2, max_size=8, unique=True))
def test_faults_together_hide_none_of_each_other(
    superuser: Superuser, seeded: list[tuple[str, LiteralString, str]]
) -> None:
    with superuser.transaction(force_rollback=True):
        there = set()
        for check, fault, name in seeded:
            # Two faults that use the same name cannot be there together.
            with suppress(psycopg.errors.DatabaseError), superuser.transaction():
                superuser.execute(fault)
                there.add((check, name))
        assert there
        found = {(finding.check, finding.object) for finding in lint(superuser)}
        assert there <= found


def test_names_are_shown_with_nothing_hidden_in_them(superuser: Superuser) -> None:
    superuser.execute('create publication "\x1b[31m\u202e" for all tables')
    messages = [finding.message for finding in lint(superuser)]
    assert messages
    assert all(message.isprintable() for message in messages)
    assert "\\x1b[31m\\u202e" in messages[0]


def test_a_finding_says_which_statement_takes_it_away(superuser: Superuser) -> None:
    superuser.execute("""
        alter role tenancy_tenant in database catalogue set app.tenant_id = 'ua';
        alter table invoices alter period set default set_config('app.tenant_id', 'ua', true);
        grant select (rolpassword) on pg_authid to tenancy_relay;
        alter role tenancy_relay createdb;
        create sequence counter;
        grant usage on counter to tenancy_tenant;
        grant truncate on invoices to tenancy_tenant;
        grant select on tenancy.tenants to tenancy_tenant;
        grant temporary on database catalogue to public
    """)
    found = {finding.check: finding.message for finding in lint(superuser)}
    cures: dict[str, LiteralString] = {
        "role-setting": "ALTER ROLE tenancy_tenant IN DATABASE catalogue RESET app.tenant_id",
        "calls-volatile": "ALTER TABLE invoices ALTER COLUMN period DROP DEFAULT",
        "system-granted": "REVOKE SELECT (rolpassword) ON TABLE pg_authid FROM tenancy_relay",
        "role-attribute": "ALTER ROLE tenancy_relay NOCREATEDB",
        "sequence": "REVOKE USAGE ON counter FROM tenancy_tenant",
        "grant-beyond-rows": "REVOKE TRUNCATE ON invoices FROM tenancy_tenant",
        "tenant-role-beyond-its-tables": "REVOKE SELECT ON tenancy.tenants FROM tenancy_tenant",
        "public-grant": "REVOKE TEMPORARY ON DATABASE catalogue FROM PUBLIC",
    }
    assert found.keys() == cures.keys()
    for check, cure in cures.items():
        assert found[check].endswith(f"{cure}.")
        superuser.execute(cure)
    assert lint(superuser) == []


def test_a_table_has_one_finding_however_much_of_its_protection_is_missing(
    superuser: Superuser,
) -> None:
    superuser.execute("""
        create table unprotected (tenant_id text, id int, primary key (tenant_id, id));
        grant select, insert on unprotected to tenancy_tenant;
        create table airports (id int primary key);
        grant select on airports to tenancy_tenant, public
    """)
    found = [(finding.check, finding.object) for finding in lint(superuser)]
    assert found.count(("row-security-off", "unprotected")) == 1
    assert [check for check, name in found if name == "unprotected"] == ["row-security-off"]
    assert found.count(("shared-table", "airports")) == 1
    [shared] = [each.message for each in lint(superuser) if each.check == "shared-table"]
    assert "which has no column with a tenant's id" in shared
    assert "FROM PUBLIC; " in shared
    assert "FROM tenancy_tenant" in shared


def test_a_right_of_every_role_says_who_has_it_in_no_other_way(superuser: Superuser) -> None:
    superuser.execute("""
        create role guest login;
        create role clerk login;
        create role clerks;
        create role mighty login superuser;
        create role sleeping;
        grant clerks to clerk;
        create table notices (id int primary key);
        grant select on notices to public, clerks
    """)
    messages = [one.message for one in lint(superuser) if one.object == "relation notices"]
    assert len(messages) == 1
    named = messages[0].partition("in no other way: ")[2].partition(". Run REVOKE")[0].split(", ")
    assert "guest" in named
    assert not {"clerk", "clerks", "mighty", "sleeping"} & set(named)


def test_a_right_of_every_role_is_named(superuser: Superuser) -> None:
    superuser.execute("grant temporary on database catalogue to public")
    [message] = [one.message for one in lint(superuser) if one.check == "public-grant"]
    assert message.startswith(
        "every role of the server has TEMPORARY on database catalogue. These would lose it, "
        "because they have it in no other way: "
    )
    assert message.endswith(". Run REVOKE TEMPORARY ON DATABASE catalogue FROM PUBLIC.")


@pytest.mark.parametrize(
    ("policy", "changed", "effect"),
    [
        (
            "using (true)",
            "",
            "changes nothing while the policy tenant_isolation stands, and opens the table to "
            "every tenant when that one goes",
        ),
        ("using (true)", "drop policy tenant_isolation on invoices", "lets a runtime role see"),
        (
            "using (true)",
            "alter policy tenant_isolation on invoices using (true)",
            "lets a runtime role see",
        ),
        ("using (true)", "grant select on invoices to tenancy_relay", "lets a runtime role see"),
        ("as restrictive using (true)", "", "hides rows from a runtime role"),
    ],
)
def test_a_policy_too_many_is_said_to_do_what_it_does(
    superuser: Superuser, policy: str, changed: str, effect: str
) -> None:
    superuser.execute(f"create policy wide on invoices {policy}; {changed}".encode())
    [message] = [one.message for one in lint(superuser) if one.check == "policy-extra"]
    assert message.startswith(f"the policy wide on invoices {effect}")
    assert message.endswith(". Run DROP POLICY wide ON invoices.")


def test_the_tables_of_migration_tools_may_be_read(superuser: Superuser) -> None:
    superuser.execute("""
        create table django_migrations (id int primary key);
        create table alembic_version (version_num text primary key);
        grant select on django_migrations, alembic_version to tenancy_tenant
    """)
    assert lint(superuser) == []
    superuser.execute("grant insert on django_migrations to tenancy_tenant")
    assert [one.check for one in lint(superuser)] == ["tenant-role-beyond-its-tables"]


def test_an_extension_that_is_not_known_is_found(superuser: Superuser) -> None:
    """The test's server may have no other to install, so an installed one gets another name."""
    superuser.execute("update pg_extension set extname = 'dblink' where extname = 'plpgsql'")
    assert ("extension", "dblink") in [(one.check, one.object) for one in lint(superuser)]


def test_a_tenant_that_the_server_gives_is_found(shared_urls: DatabaseUrls) -> None:
    url = shared_urls.superuser.replace("+psycopg", "")
    with psycopg.connect(url, options="-c app.tenant_id=ua") as superuser:
        found = [(one.check, one.object) for one in lint(superuser)]
    assert found == [("server-setting", "app.tenant_id")]


def test_a_setting_in_the_servers_file_is_found(shared_urls: DatabaseUrls) -> None:
    with connect(shared_urls.superuser) as superuser:
        superuser.autocommit = True
        try:
            superuser.execute("alter system set lo_compat_privileges = on")
            superuser.execute("select pg_reload_conf()")
            while not (found := lint(superuser)):  # until the server has read the file
                pass
            assert [one.object for one in found] == ["lo_compat_privileges"]
        finally:
            superuser.execute("alter system reset lo_compat_privileges")
            superuser.execute("select pg_reload_conf()")
            while lint(superuser):
                pass


@pytest.mark.parametrize(
    "sound",
    [
        PROTECTED,
        # Not tenant-owned: it has no tenant_id, and the tenant role has no rights on it.
        "create table airports (code text primary key)",
        """
        create view my_invoices with (security_invoker = on) as table invoices;
        grant select on my_invoices to tenancy_tenant
        """,
        # Types and functions that only compute, and a harmless setting.
        """
        create domain positive as int check (value > 0);
        alter table invoices add column n positive default 1;
        create type span as range (subtype = date);
        create function doubled(int) returns int language sql return $1 * 2;
        grant execute on function doubled(int) to tenancy_tenant;
        alter role tenancy_tenant set work_mem = '8MB'
        """,
        # An empty publication, and a disabled event trigger.
        """
        create publication nothing_of_ours;
        create function seen() returns event_trigger language plpgsql as 'begin end';
        create event trigger seen on ddl_command_end execute function seen();
        alter event trigger seen disable
        """,
        # A partition that is accessible only through its parent.
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
    access = postgres.data / "pg_hba.conf"
    before = access.read_text()
    trust = "host catalogue tenancy_tenant 127.0.0.1/32 trust\n"
    with connect(shared_urls.superuser) as superuser:
        try:
            access.write_text(trust + before)
            superuser.execute("select pg_reload_conf()")
            # The server reads the file some time after the reload.
            while not (found := passwordless_logins(superuser)):
                pass
            assert [finding.object for finding in found] == ["tenancy_tenant"]
        finally:
            access.write_text(before)
            superuser.execute("select pg_reload_conf()")
            while passwordless_logins(superuser):
                pass

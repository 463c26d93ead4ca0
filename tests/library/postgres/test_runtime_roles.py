"""Runtime roles with names of their own: made, or the application's and adopted after a check."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.lint.catalogue import lint
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, ExcessRights
from temporal_tenancy.postgres.installation import Installation, Roles
from temporal_tenancy.postgres.migrations import migrate, pending, prepare_roles
from temporal_tenancy.postgres.roles import MARK
from tests.fixtures.postgres import within
from tests.fixtures.strangers import Stranger, named, strangers_database
from tests.fixtures.tables.models import TABLES, Invoice

ENVIRONMENTS = (*LIBRARY, TABLES)

INSERT = """
    insert into tenancy.outbox_messages (tenant_id, job, key, payload{0})
    values ('acme', 'a.b', 'k', '{{}}'{1})
"""


@pytest.fixture
def stranger(postgres: EmbeddedPostgres) -> Iterator[Stranger]:
    """A database that is open to every role, beside another application."""
    with strangers_database(postgres) as stranger:
        yield stranger


def run(stranger: Stranger, installation: Installation, owner: str | None = None) -> None:
    migrate(owner or stranger.urls.owner, application=[TABLES], **stranger.asks(installation))


def adopted(stranger: Stranger, suffix: str, *statements: str) -> Installation:
    """Creates the roles as an application or its operator would, and returns their names."""
    installation = named(suffix)
    stranger.run(
        *(f"create role {role} login password 'own'" for role in installation.roles), *statements
    )
    return installation


async def test_roles_have_the_names_that_the_installation_gives(stranger: Stranger) -> None:
    installation = Installation(roles=Roles("App", "ops@project.iam", "re-lay$1"))
    run(stranger, installation)
    run(stranger, installation)  # again
    roles = installation.roles
    for role in roles:
        assert pending(stranger.url(role), ENVIRONMENTS) == []
    with connect(stranger.urls.superuser) as superuser:
        found = lint(superuser, environments=ENVIRONMENTS, installation=installation)
        assert {finding.check for finding in found if not finding.open} == set()
        named_in_triggers = superuser.execute(
            "select count(*) from pg_trigger where pg_get_triggerdef(oid) like '%''App''%'"
        ).fetchone()
        assert named_in_triggers == (3,)
    database = Database(tenant_url=stranger.url("App"), platform_url=stranger.url(roles.platform))
    try:
        for tenant in ("acme", "globex"):
            with within(database, tenant):
                async with tenant_session() as session:
                    session.add(Invoice(tenant_id=tenant, period="2013-04"))
                async with tenant_session() as session:
                    found_rows = await session.connection()
                    rows = await found_rows.exec_driver_sql("select tenant_id from invoices")
                    assert rows.all() == [(tenant,)]
    finally:
        await database.dispose()
    with psycopg.connect(stranger.url("App").replace("+psycopg", "")) as tenant_role:
        tenant_role.execute("select set_config('app.tenant_id', 'acme', true)")
        tenant_role.execute(INSERT.format("", ""))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="App may not write this"):
            tenant_role.execute(INSERT.format(", attempts", ", -1"))


def test_a_role_that_the_library_makes_carries_its_mark_and_gets_the_urls_password(
    stranger: Stranger,
) -> None:
    installation = named("made")
    run(stranger, installation)
    stranger.run(f"alter role {installation.roles.tenant} password 'lost'")
    run(stranger, installation)
    with connect(stranger.url(installation.roles.tenant)) as tenant:
        assert tenant.execute("show statement_timeout").fetchone() == ("15min",)
        comments = "select shobj_description(oid, 'pg_authid') from pg_roles where rolname ~ %s"
        assert tenant.execute(comments, ["_made$"]).fetchall() == [(MARK,)] * 3


def test_a_role_of_the_application_keeps_its_password_and_its_settings(stranger: Stranger) -> None:
    installation = adopted(
        stranger,
        "kept",
        "alter role app_kept set statement_timeout = '7s'",
        "create table countries (code text)",
        "grant select on countries to app_kept",
    )
    with connect(stranger.urls.superuser) as superuser:
        query = """
            select pg_authid.*, shobj_description(oid, 'pg_authid'),
                array(select setconfig from pg_db_role_setting where setrole = pg_authid.oid)::text
            from pg_authid where rolname ~ '_kept$' order by oid
        """
        before = superuser.execute(query).fetchall()
        run(stranger, installation, stranger.urls.superuser)  # who could alter them
        assert superuser.execute(query).fetchall() == before
        with pytest.raises(DatabaseUnreachable):  # the URL's password is another
            pending(stranger.url("app_kept"), ENVIRONMENTS)
        assert pending(stranger.url("app_kept", "own"), ENVIRONMENTS) == []
        stranger.run("table countries", url=stranger.url("app_kept", "own"))
        found = lint(superuser, environments=ENVIRONMENTS, installation=installation)
        assert {finding.check for finding in found if not finding.open} == set()
        assert "countries, which has no column with a tenant's id" in " ".join(map(str, found))


def test_the_url_of_a_role_of_the_application_needs_no_password(stranger: Stranger) -> None:
    installation = adopted(stranger, "open")
    roles = installation.roles
    migrate(
        stranger.urls.owner,
        tenant_url=stranger.url(roles.tenant, ""),
        platform_url=stranger.url(roles.platform, ""),
        installation=installation,
    )
    assert pending(stranger.url(roles.tenant, "own"), LIBRARY) == []


EXCESS = {
    "superuser": ("alter role app_x superuser", "app_x is a superuser"),
    "bypassrls": ("alter role app_x bypassrls", "app_x bypasses row-level security"),
    "createrole": ("alter role app_x createrole", "app_x may create roles"),
    "createdb": ("alter role app_x createdb", "app_x may create databases"),
    "replication": ("alter role app_x replication", "app_x may replicate"),
    "platform": ("alter role platform_x createdb", "platform_x may create databases"),
    "table": (
        "create table t (n int); alter table t owner to app_x",
        "app_x owns t, .* REASSIGN OWNED BY app_x",
    ),
    "schema": ("create schema s authorization app_x", "app_x owns schema s"),
    "database": ("alter database {database} owner to app_x", "app_x owns database postgres"),
    "type": ("create type t as (n int); alter type t owner to app_x", "app_x owns (type )?t,"),
    "member": ("grant pg_read_all_data to app_x", "app_x is a member of pg_read_all_data"),
    "of the owner": ("grant tenancy_owner to app_x", "app_x is a member of tenancy_owner"),
    "through": (
        "create role between; grant tenancy_owner to between; grant between to relay_x",
        "relay_x is a member of",
    ),
    "creates": ("grant create on schema public to app_x", "may create objects in schema public"),
}  # fmt: skip


@pytest.mark.parametrize("excess", EXCESS)
def test_a_role_that_may_do_more_is_not_adopted(excess: str, postgres: EmbeddedPostgres) -> None:
    statement, said = EXCESS[excess]
    installation = named("x")
    roles = installation.roles
    with (
        connect(postgres.urls("postgres").superuser) as superuser,
        superuser.transaction(force_rollback=True),
    ):
        for role in roles:
            superuser.execute(f"create role {role} login password 'own'".encode())
        prepare_roles(superuser, installation, dict.fromkeys(roles, "another"))
        superuser.execute(statement.format(database="postgres").encode())
        with pytest.raises(ExcessRights, match=said):
            prepare_roles(superuser, installation, dict.fromkeys(roles, "another"))


def test_every_right_too_many_is_named_and_the_cures_need_no_superuser(stranger: Stranger) -> None:
    owner = stranger.urls.owner
    installation = named("many")
    role = installation.roles.tenant
    stranger.run(
        *(f"create role {each} login password 'own'" for each in installation.roles), url=owner
    )
    tables = [f"t{number}" for number in range(7)]
    stranger.run(
        *(f"create table {table} (n int)" for table in tables),
        *(f"alter table {table} owner to {role}" for table in tables),
        f"alter role {role} createdb",
        "create role sales",
        f"grant sales to {role}",
    )
    with pytest.raises(ExcessRights) as refused:
        run(stranger, installation)
    message = str(refused.value)
    assert f"the role {role} owns t0, t1, t2, t3, t4 and 2 more objects, so" in message
    assert f"REVOKE sales FROM {role}" in message
    assert f"ALTER ROLE {role} NOCREATEDB" in message
    cure = re.search(r"or, as tenancy_owner: (GRANT .*? FROM tenancy_owner)\.", message)
    assert cure is not None
    stranger.run(*cure[1].split("; "), url=owner)
    stranger.run(f"alter role {role} nocreatedb", f"revoke sales from {role}")
    run(stranger, installation)


@pytest.mark.parametrize("excess", ["bypassrls", "table"])
def test_where_a_role_is_not_adopted_nothing_is_changed(excess: str, stranger: Stranger) -> None:
    statement, said = EXCESS[excess]
    installation = adopted(stranger, "x", statement)
    before = stranger.state()
    with pytest.raises(ExcessRights, match=said):
        run(stranger, installation)
    assert stranger.state() == before
    assert stranger.other_app_works()


def test_what_every_role_may_do_is_no_excess(stranger: Stranger) -> None:
    stranger.run("grant create on schema public to public")  # as before PostgreSQL 15
    installation = adopted(stranger, "old")
    run(stranger, installation)
    with connect(stranger.url(installation.roles.tenant, "own")) as tenant:
        found = lint(tenant, environments=ENVIRONMENTS, installation=installation)
    creates = [finding.message for finding in found if not finding.open]
    assert {finding.check for finding in found if not finding.open} == {"role-creates"}
    assert all("PUBLIC (another role that creates there" in message for message in creates)


def test_the_role_that_migrates_is_no_runtime_role(stranger: Stranger) -> None:
    stranger.run(
        "create role app_me login createrole password 'secret'",
        f"alter database {stranger.name} owner to app_me",
    )
    with pytest.raises(ExcessRights, match="app_me migrates the database"):
        run(stranger, named("me"), stranger.url("app_me"))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (("public", "b", "c"), "'public' is not a name"),
        (("pg_monitor", "b", "c"), "'pg_monitor' is not a name"),
        (("", "b", "c"), "'' is not a name"),
        (("a" * 64, "b", "c"), "is not a name"),
        (("a'b", "b", "c"), "is not a name"),
        (("a:b", "b", "c"), "is not a name"),
        (("a\n", "b", "c"), "is not a name"),
        (("a", "b", "a"), "a, b, a are not three"),
    ],
)
def test_names_that_are_none_are_refused(roles: tuple[str, str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Roles(*roles)


def test_a_database_keeps_the_roles_that_it_was_migrated_with(stranger: Stranger) -> None:
    run(stranger, named("first"))
    before = stranger.state()
    with pytest.raises(ConfigurationError, match="with the roles app_first, platform_first, relay"):
        run(stranger, named("second"))
    assert stranger.state() == before


@pytest.mark.parametrize("may_create", [True, False], ids=["CREATEROLE", "roles exist"])
def test_an_owner_needs_to_be_no_superuser(stranger: Stranger, may_create: bool) -> None:
    attribute = "createrole" if may_create else ""
    installation = named("poor") if may_create else adopted(stranger, "poor")
    stranger.run(
        f"create role boss login {attribute} password 'secret'",
        f"alter database {stranger.name} owner to boss",
    )
    run(stranger, installation, stranger.url("boss"))
    run(stranger, installation, stranger.url("boss"))
    password = "secret" if may_create else "own"
    for role in installation.roles:
        assert pending(stranger.url(role, password), ENVIRONMENTS) == []
    with connect(stranger.urls.superuser) as superuser:
        found = lint(superuser, environments=ENVIRONMENTS, installation=installation)
    assert {finding.check for finding in found if not finding.open} == set()


def test_an_owner_who_may_create_no_role_is_told_so_and_nothing_is_changed(
    stranger: Stranger,
) -> None:
    stranger.run(
        "create role boss login password 'secret'",
        f"alter database {stranger.name} owner to boss",
    )
    before = stranger.state()
    with pytest.raises(ConfigurationError, match="boss may not create the role app_none"):
        run(stranger, named("none"), stranger.url("boss"))
    assert stranger.state() == before


def test_an_owner_who_may_not_let_a_role_in_says_which_statement_does(stranger: Stranger) -> None:
    installation = adopted(
        stranger,
        "out",
        f"revoke connect on database {stranger.name} from public",
        "create role boss login password 'secret'; grant create on schema public to boss",
        f"grant connect, create on database {stranger.name} to boss",
    )
    with pytest.raises(
        ConfigurationError, match=r'run grant connect on database "stranger.*app_out'
    ):
        run(stranger, installation, stranger.url("boss"))

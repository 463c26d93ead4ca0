"""Installations in `public`, as earlier releases made them: used there, and moved."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.lint import catalogue
from temporal_tenancy.lint._installation import check_database
from temporal_tenancy.outbox import OutboxMessage, enqueue
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import InstallationElsewhere, MigrationBlocked
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import Patience, migrate, pending
from temporal_tenancy.postgres.moving import MOVED, drop_views, move, views_of_old_names
from tests.fixtures.decoys import NAMES
from tests.fixtures.held_locks import holding
from tests.fixtures.postgres import within
from tests.fixtures.tables.models import TABLES

ENVIRONMENTS = (*LIBRARY, TABLES)
TWICE = Patience(tries=2, pause=timedelta(0))


def run(urls: DatabaseUrls, installation: Installation | None = None) -> None:
    migrate(
        urls.owner,
        tenant_url=urls.tenant,
        platform_url=urls.platform,
        relay_url=urls.relay,
        application=[TABLES],
        installation=installation,
        harden=True,
    )


@pytest.fixture
def public_urls(empty_urls: DatabaseUrls) -> DatabaseUrls:
    run(empty_urls, Installation("public"))
    return empty_urls


def places(urls: DatabaseUrls) -> set[tuple[str, str]]:
    """Returns the schema of each table and view, as (schema.name, kind)."""
    with connect(urls.superuser) as superuser:
        found: set[tuple[str, str]] = set(
            superuser.execute(
                """
                select format('%%s.%%s', nspname, relname), relkind::text
                from pg_class join pg_namespace on pg_namespace.oid = relnamespace
                where relname = any(%s) and relkind in ('r', 'v')
                """,
                [list(MOVED)],
            )
        )
    return found


IN_PUBLIC = {(f"public.{name}", "r") for name in MOVED}
IN_THE_SCHEMA = {(f"tenancy.{name}", "r") for name in MOVED}
VIEWS = {(f"public.{name}", "v") for name in MOVED}


async def ask(database: Database, key: str) -> None:
    with within(database, "acme"):
        async with tenant_session():
            await enqueue("test.note", {"text": "x"}, key=key)


async def keys(database: Database) -> list[str]:
    with within(database, "acme"):
        async with tenant_session() as session:
            rows = await session.execute(
                OutboxMessage.__table__.select().order_by(OutboxMessage.id)
            )
            return [row.key for row in rows]


def of(urls: DatabaseUrls) -> Database:
    return Database(tenant_url=urls.tenant, platform_url=urls.platform)


def test_what_is_moved_is_every_table_of_the_library() -> None:
    assert set(MOVED) == set(NAMES)


async def test_tables_in_public_are_used_and_migrated_there(public_urls: DatabaseUrls) -> None:
    run(public_urls)
    assert places(public_urls) == IN_PUBLIC
    assert pending(public_urls.tenant, ENVIRONMENTS) == []
    database = of(public_urls)
    try:
        await ask(database, "1")
        assert await keys(database) == ["1"]
    finally:
        await database.dispose()
    with connect(public_urls.superuser) as superuser:
        assert superuser.execute("select key from public.outbox_messages").fetchall() == [("1",)]
        assert catalogue.lint(superuser, environments=ENVIRONMENTS) == []


async def test_a_process_goes_on_through_a_move_and_after_it(public_urls: DatabaseUrls) -> None:
    before, after, last = of(public_urls), of(public_urls), of(public_urls)
    try:
        await ask(before, "1")
        assert move(public_urls.owner)
        assert places(public_urls) == IN_THE_SCHEMA | VIEWS
        await ask(before, "2")  # on its connection of before
        await ask(after, "3")
        assert await keys(before) == await keys(after) == ["1", "2", "3"]
        await before.dispose()
        assert set(drop_views(public_urls.owner)) == set(MOVED)
        assert places(public_urls) == IN_THE_SCHEMA
        await ask(before, "4")
        await ask(last, "5")
        assert await keys(last) == ["1", "2", "3", "4", "5"]
    finally:
        for database in (before, after, last):
            await database.dispose()


def test_a_move_may_be_repeated_and_so_may_its_end(public_urls: DatabaseUrls) -> None:
    assert move(public_urls.owner)
    assert not move(public_urls.owner)
    run(public_urls)
    with connect(public_urls.tenant) as tenant:
        assert set(views_of_old_names(tenant, "tenancy")) == set(MOVED)
    with connect(public_urls.superuser) as superuser:
        assert catalogue.lint(superuser, environments=ENVIRONMENTS) == []
        assert drop_views(public_urls.owner)
        assert drop_views(public_urls.owner) == []
        assert not move(public_urls.owner)
        assert catalogue.lint(superuser, environments=ENVIRONMENTS) == []
    run(public_urls)
    assert places(public_urls) == IN_THE_SCHEMA


JOBS = Installation("jobs")


def of_jobs(urls: DatabaseUrls) -> Database:
    return Database(tenant_url=urls.tenant, platform_url=urls.platform, installation=JOBS)


def test_no_second_installation_is_made_unasked(database_urls: DatabaseUrls) -> None:
    before = places(database_urls)
    sentence = "in the schema tenancy of this database, and not in jobs. Name the schema that has"
    for look in (
        lambda: run(database_urls, JOBS),
        lambda: pending(database_urls.tenant, ENVIRONMENTS, installation=JOBS),
        lambda: check_database(database_urls.tenant, [TABLES], installation=JOBS),
    ):
        with pytest.raises(InstallationElsewhere, match=sentence):
            look()
    with (
        connect(database_urls.tenant) as tenant,
        pytest.raises(InstallationElsewhere, match=sentence),
    ):
        catalogue.lint(tenant, installation=JOBS)
    assert places(database_urls) == before


def test_a_second_installation_is_made_when_it_is_asked_for(database_urls: DatabaseUrls) -> None:
    before = places(database_urls)
    migrate(
        database_urls.owner,
        tenant_url=database_urls.tenant,
        platform_url=database_urls.platform,
        installation=JOBS,
        beside=True,
    )
    assert places(database_urls) == before | {(f"jobs.{name}", "r") for name in MOVED}
    run(database_urls, JOBS)  # no more asking
    run(database_urls)
    for installation in (None, JOBS):
        assert not pending(database_urls.tenant, ENVIRONMENTS, installation=installation)
    third = Installation("third")
    with pytest.raises(InstallationElsewhere, match="the schema jobs and tenancy"):
        run(database_urls, third)
    with pytest.raises(ConfigurationError, match="no move can tell which"):
        move(database_urls.owner, installation=third)


async def test_a_process_that_names_another_schema_is_told_where_the_tables_are(
    database_urls: DatabaseUrls,
) -> None:
    database = of_jobs(database_urls)
    try:
        with within(database, "acme"):
            with pytest.raises(InstallationElsewhere, match="the schema tenancy"):
                async with tenant_session():  # asks the control plane for the tenant's store
                    pass
            with pytest.raises(InstallationElsewhere, match="the schema tenancy"):
                await ask(database, "1")
        with pytest.raises(InstallationElsewhere, match="not in jobs"):
            await ControlPlaneDirectory(database).find("acme")
    finally:
        await database.dispose()


async def test_an_installation_moves_on_to_another_schema(database_urls: DatabaseUrls) -> None:
    before, after = of(database_urls), of_jobs(database_urls)
    views = {(f"tenancy.{name}", "v") for name in MOVED}
    try:
        await ask(before, "1")
        assert move(database_urls.owner, installation=JOBS)
        assert not move(database_urls.owner, installation=JOBS)
        tables = {(f"jobs.{name}", "r") for name in MOVED}
        moved = places(database_urls)
        assert {place for place in moved if not place[0].startswith("public.")} == tables | views
        await ask(before, "2")  # on its connection of before
        await before.dispose()
        await ask(before, "3")  # on one that finds the views
        await ask(after, "4")
        assert await keys(before) == await keys(after) == ["1", "2", "3", "4"]
        run(database_urls, JOBS)
        with connect(database_urls.tenant) as tenant:
            left = views_of_old_names(tenant, "jobs")
            assert set(left) == {f"tenancy.{name}" for name in MOVED}
            assert catalogue.lint(tenant, environments=ENVIRONMENTS, installation=JOBS) == []
        assert drop_views(database_urls.owner, installation=JOBS) == left
        assert views.isdisjoint(places(database_urls))
        await ask(after, "5")
        await before.dispose()
        with pytest.raises(InstallationElsewhere, match="in the schema jobs"):
            await ask(before, "6")
    finally:
        for database in (before, after):
            await database.dispose()


def test_a_view_of_the_applications_is_not_dropped(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute("create schema app")
        owner.execute("create view app.tenants as select * from tenancy.tenants")
        assert views_of_old_names(owner, "tenancy") == []


def test_a_new_database_has_nothing_to_move(database_urls: DatabaseUrls) -> None:
    before = places(database_urls)
    assert not move(database_urls.owner)
    assert drop_views(database_urls.owner) == []
    assert places(database_urls) == before


async def test_a_strangers_table_of_versions_is_not_the_librarys(
    database_urls: DatabaseUrls,
) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute("alter table public.control_plane_version add column version_num text")
    assert pending(database_urls.tenant, ENVIRONMENTS) == []
    database = of(database_urls)
    try:
        await ask(database, "1")
        assert await keys(database) == ["1"]
    finally:
        await database.dispose()


def test_a_move_waits_for_nobody_for_long(public_urls: DatabaseUrls) -> None:
    with holding(public_urls.tenant, "acme", "select from outbox_messages"):
        with pytest.raises(MigrationBlocked, match="on 2 tries in a row, and nothing has changed"):
            move(public_urls.owner, patience=TWICE)
        assert places(public_urls) == IN_PUBLIC
    assert move(public_urls.owner)
    with holding(public_urls.tenant, "acme", "select from public.outbox_messages"):
        with pytest.raises(MigrationBlocked):
            drop_views(public_urls.owner, patience=TWICE)
        assert places(public_urls) == IN_THE_SCHEMA | VIEWS


@pytest.mark.parametrize(
    ("wall", "error", "match"),
    [
        (
            "create schema tenancy authorization tenancy_owner; create table tenancy.tenants ()",
            ConfigurationError,
            "the schema tenancy already has tenants",
        ),
        (
            """
            create function no() returns event_trigger language plpgsql
                as 'begin raise exception ''no view''; end';
            create event trigger no on ddl_command_start when tag in ('CREATE VIEW')
                execute function no()
            """,
            psycopg.errors.RaiseException,
            "no view",
        ),
    ],
    ids=["a table in the way", "half-way"],
)
def test_a_move_that_fails_changes_nothing(
    public_urls: DatabaseUrls, wall: str, error: type[Exception], match: str
) -> None:
    with connect(public_urls.superuser) as superuser:
        superuser.execute(wall.encode())
        before = places(public_urls)
        with pytest.raises(error, match=match):
            move(public_urls.owner)
        assert places(public_urls) == before
        superuser.execute("drop event trigger if exists no; drop table if exists tenancy.tenants")
    assert move(public_urls.owner)


def test_what_the_application_has_made_on_a_view_keeps_it(public_urls: DatabaseUrls) -> None:
    assert move(public_urls.owner)
    with connect(public_urls.owner) as owner:
        owner.execute("create view public.paying as select id from public.tenants")
    with pytest.raises(ConfigurationError, match="view paying depends on view tenants"):
        drop_views(public_urls.owner)
    assert places(public_urls) == IN_THE_SCHEMA | VIEWS


RIGHTS = """
    select relname, rolname, attname, kind,
        has_column_privilege(rolname, pg_class.oid, attnum, kind)
    from pg_class
    join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
    cross join unnest(array['tenancy_tenant', 'tenancy_platform', 'tenancy_relay']) as rolname
    cross join unnest(array['SELECT', 'INSERT', 'UPDATE']) as kind
    where relnamespace = %(schema)s::regnamespace and relname = any(%(tables)s)
    union all
    select relname, rolname, '', 'DELETE', has_table_privilege(rolname, pg_class.oid, 'DELETE')
    from pg_class
    cross join unnest(array['tenancy_tenant', 'tenancy_platform', 'tenancy_relay']) as rolname
    where relnamespace = %(schema)s::regnamespace and relname = any(%(tables)s)
"""


def test_the_views_have_the_rights_of_the_tables(public_urls: DatabaseUrls) -> None:
    def rights(superuser: psycopg.Connection[Any], schema: str) -> set[Any]:
        return set(superuser.execute(RIGHTS, {"schema": schema, "tables": list(MOVED)}))

    with connect(public_urls.superuser) as superuser:
        before = rights(superuser, "public")
        assert move(public_urls.owner)
        assert rights(superuser, "tenancy") == before
        assert rights(superuser, "public") == before
        assert len({right for *_, right in before}) == 2


def test_the_tests_databases_have_a_strangers_tables(database_urls: DatabaseUrls) -> None:
    """So that a statement that forgets the schema fails, in whichever test."""
    assert places(database_urls) == IN_THE_SCHEMA | IN_PUBLIC
    with connect(database_urls.superuser) as superuser:
        assert superuser.execute("table public.tenants").fetchall() == []
        with pytest.raises(psycopg.errors.RaiseException, match="is the application's own"):
            superuser.execute("delete from public.tenants; truncate public.tenants")

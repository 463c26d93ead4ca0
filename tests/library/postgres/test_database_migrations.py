"""Migrations: what they create, repeated and concurrently, and whether a database has them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, make_url
from sqlalchemy.pool import NullPool

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.control_plane.tables import ControlPlane
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import CONTROL_PLANE, LIBRARY
from temporal_tenancy.outbox.tables import OutboxData
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import (
    DatabaseUnreachable,
    ExcessRights,
    InstallationElsewhere,
    MigrationsBehind,
)
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import migrate, pending, refuse_pending
from temporal_tenancy.postgres.roles import ensure_role
from temporal_tenancy.postgres.uuids import UUIDV7
from tests.fixtures.tables.models import TABLES, Tables

ENVIRONMENTS = (*LIBRARY, TABLES)


def run(urls: DatabaseUrls) -> None:
    migrate(urls.owner, tenant_url=urls.tenant, platform_url=urls.platform, application=[TABLES])


CONSTRAINTS = """
    select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    from pg_constraint
    where connamespace in ('public'::regnamespace, 'tenancy'::regnamespace) and conrelid <> 0
        and conrelid::regclass::text not like '%\\_version'
"""


def tables_differ(urls: DatabaseUrls, metadata: MetaData) -> list[object]:
    """Returns where a migrated database's tables differ from `metadata`."""
    names = {table.name for table in metadata.tables.values()}

    def is_theirs(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        if kind == "schema":
            return name == metadata.schema
        return kind != "table" or name in names

    # So that an own uuidv7(), where the server has none, is shown without its schema.
    path = {"options": "-csearch_path=public,tenancy"}
    engine = create_engine(urls.owner, poolclass=NullPool, connect_args=path)
    with engine.connect() as connection:
        migration = MigrationContext.configure(
            connection,
            opts={
                "compare_server_default": True,
                "include_schemas": True,
                "include_name": is_theirs,
            },
        )
        return list(compare_metadata(migration, metadata))


def constraints_of(
    migrated: DatabaseUrls, empty: DatabaseUrls, models: Iterable[MetaData]
) -> tuple[set[object], set[object]]:
    """Returns the constraints of a migrated database, and those that the models create."""
    engine = create_engine(empty.owner, poolclass=NullPool)
    with connect(empty.owner) as owner:
        owner.execute("create schema tenancy")
        if owner.info.server_version < 180_000:
            owner.execute(f"create function uuidv7() returns uuid language sql as $${UUIDV7}$$")
    for metadata in models:
        metadata.create_all(engine)
    with connect(migrated.owner) as made, connect(empty.owner) as modelled:
        return set(made.execute(CONSTRAINTS)), set(modelled.execute(CONSTRAINTS))


def test_a_database_without_an_encoding_is_refused(
    postgres: EmbeddedPostgres, database_urls: DatabaseUrls
) -> None:
    name = f"{make_url(database_urls.owner).database}_ascii"
    with connect(database_urls.superuser) as superuser:
        superuser.execute(
            f'create database "{name}" owner {make_url(database_urls.owner).username} '
            "template template0 encoding 'SQL_ASCII' locale 'C'"
        )
    try:
        with pytest.raises(ConfigurationError) as refused:
            run(postgres.urls(name))
    finally:
        with connect(database_urls.superuser) as superuser:
            superuser.execute(f'drop database "{name}"')
    assert str(refused.value) == (
        f"the database {name} has the encoding SQL_ASCII, which says nothing about its text. "
        f'Create it again in UTF-8: CREATE DATABASE "{name}" TEMPLATE template0 ENCODING '
        "'UTF8'."
    )


@pytest.mark.parametrize("metadata", [ControlPlane.metadata, Tables.metadata])
def test_the_migrations_make_the_tables_of_the_models(
    database_urls: DatabaseUrls, metadata: MetaData
) -> None:
    assert tables_differ(database_urls, metadata) == []


def test_the_migrations_make_the_constraints_of_the_models(
    database_urls: DatabaseUrls, empty_urls: DatabaseUrls
) -> None:
    every = (ControlPlane.metadata, OutboxData.metadata, Tables.metadata)
    made, modelled = constraints_of(database_urls, empty_urls, every)
    assert made == modelled
    assert len(made) > 20


def test_an_owner_that_may_not_make_roles_is_told_so(postgres: EmbeddedPostgres) -> None:
    urls = postgres.urls("postgres")
    with connect(urls.superuser) as superuser:
        superuser.execute("create role poor login password 'poor'")
        superuser.execute("grant connect on database postgres to poor")
        poor = make_url(urls.superuser).set(username="poor", password="poor")
        try:
            with (
                connect(poor.render_as_string(hide_password=False)) as connection,
                pytest.raises(ConfigurationError, match="poor may not create the role anybody"),
            ):
                ensure_role(connection, "anybody", "password")
        finally:
            superuser.execute("drop owned by poor; drop role poor")


def test_a_role_that_does_not_own_the_database_is_told_so(database_urls: DatabaseUrls) -> None:
    url = make_url(database_urls.superuser)
    with connect(database_urls.superuser) as superuser:
        superuser.execute("create role guest login password 'guest'")
        superuser.execute(f'grant connect on database "{url.database}" to guest'.encode())
        guest = url.set(username="guest", password="guest")
        try:
            with pytest.raises(ConfigurationError, match=r"^guest may not migrate .* owner\.$"):
                migrate(
                    guest.render_as_string(hide_password=False),
                    tenant_url=database_urls.tenant,
                    platform_url=database_urls.platform,
                )
        finally:
            superuser.execute("drop owned by guest; drop role guest")


def test_migrating_twice_changes_nothing(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute("delete from tenancy.plans where id = 'free'")
        run(database_urls)
        assert owner.execute("select count(*) from tenancy.plans").fetchone() == (2,)


def test_migrating_at_once_takes_turns(
    postgres: EmbeddedPostgres, empty_urls: DatabaseUrls
) -> None:
    """Two databases as well: they share the server's roles."""
    beside = postgres.create_database("empty_too")
    targets = [empty_urls, beside] * 3
    ready = threading.Barrier(len(targets))
    failures: list[Exception] = []

    def attempt(urls: DatabaseUrls) -> None:
        try:
            ready.wait()
            run(urls)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=[urls]) for urls in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert failures == []
        assert pending(empty_urls.tenant, ENVIRONMENTS) == []
        assert pending(beside.tenant, ENVIRONMENTS) == []
    finally:
        postgres.drop_database("empty_too")


@pytest.mark.parametrize("beside", [False, True])
def test_the_first_migrations_of_two_schemas_at_once_take_turns(
    empty_urls: DatabaseUrls, beside: bool
) -> None:
    """The second finds the first one's tables, as it would have later."""
    ready = threading.Barrier(2)
    failures: list[Exception] = []

    def attempt(schema: str) -> None:
        try:
            ready.wait()
            migrate(
                empty_urls.owner,
                tenant_url=empty_urls.tenant,
                platform_url=empty_urls.platform,
                installation=Installation(schema=schema),
                beside=beside,
            )
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=[schema]) for schema in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(empty_urls.superuser) as superuser:
        found = superuser.execute(
            "select nspname from pg_namespace where nspname !~ '^pg_' "
            "and nspname not in ('information_schema', 'public') order by 1"
        ).fetchall()
    made = [schema for (schema,) in found]
    if beside:
        assert (failures, made) == ([], ["one", "two"])
    else:
        assert [type(error) for error in failures] == [InstallationElsewhere]
        assert len(made) == 1
    for schema in made:
        there = Installation(schema=schema)
        assert pending(empty_urls.tenant, LIBRARY, installation=there, beside=beside) == []


def test_the_runtime_roles_learn_that_migrations_are_pending(
    database_urls: DatabaseUrls, superuser_sets_revision: None
) -> None:
    for url in (database_urls.tenant, database_urls.platform):
        assert [behind.environment for behind in pending(url, ENVIRONMENTS)] == [CONTROL_PLANE]
    with pytest.raises(MigrationsBehind, match=r"control plane is at its beginning.*needs 00"):
        refuse_pending(database_urls.platform, ENVIRONMENTS)


@pytest.fixture
def superuser_sets_revision(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute("delete from tenancy.control_plane_version")


def test_an_empty_database_is_behind(empty_urls: DatabaseUrls) -> None:
    assert len(pending(empty_urls.owner, ENVIRONMENTS)) == 3


def test_a_database_ahead_of_the_code_is_not_behind(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute("update tenancy.control_plane_version set version_num = 'of a later release'")
    refuse_pending(database_urls.platform, ENVIRONMENTS)


def test_what_a_later_release_has_migrated_is_left_alone(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute("update tenancy.control_plane_version set version_num = 'of a later release'")
    with pytest.raises(ConfigurationError, match=r"is at of a later release.*does not know"):
        run(database_urls)


def test_a_url_of_the_wrong_role_or_without_a_password_is_refused(
    empty_urls: DatabaseUrls,
) -> None:
    with pytest.raises(ConfigurationError, match="Log in as tenancy_tenant"):
        migrate(empty_urls.owner, tenant_url=empty_urls.platform, platform_url=empty_urls.platform)
    with pytest.raises(ConfigurationError, match="no password"):
        migrate(
            empty_urls.owner,
            tenant_url="postgresql://tenancy_tenant@localhost/saas",
            platform_url=empty_urls.platform,
        )


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1/saas") as caught:
        pending("postgresql://tenancy_owner:hunter2@127.0.0.1:1/saas", ENVIRONMENTS)
    assert "hunter2" not in str(caught.value)


def test_a_runtime_role_with_too_many_rights_is_refused(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute("alter role tenancy_platform bypassrls")
        try:
            with pytest.raises(ExcessRights, match="tenancy_platform"):
                run(database_urls)
        finally:
            superuser.execute("alter role tenancy_platform nobypassrls")


def test_the_relays_role_logs_in_when_its_url_is_given(database_urls: DatabaseUrls) -> None:
    migrate(
        database_urls.owner,
        tenant_url=database_urls.tenant,
        platform_url=database_urls.platform,
        relay_url=database_urls.relay,
        application=[TABLES],
    )
    refuse_pending(database_urls.relay, ENVIRONMENTS)


def test_a_role_is_logged_in_to_by_its_password_only(database_urls: DatabaseUrls) -> None:
    password = database_urls.tenant.split(":")[2].split("@")[0]
    with pytest.raises(DatabaseUnreachable), connect(database_urls.tenant.replace(password, "x")):
        pass

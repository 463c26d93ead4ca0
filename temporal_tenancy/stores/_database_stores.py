"""Makes and drops stores that are databases of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import URL

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import IDENTITY, PUBLIC, Installation
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.postgres.role_checks import STORE_MARK
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.postgres.store_roles import make_identity, make_identity_table
from temporal_tenancy.stores.errors import StoreExists

_DATABASE: Final = """
    select shobj_description(oid, 'pg_database') from pg_database where datname = %s
"""
_MADE: Final = """
    select datname::text from pg_database
    where datname = any(%s) and shobj_description(oid, 'pg_database') like %s
    order by 1
"""
_HAS_TABLE: Final = "select to_regclass(%s) is not null"
# Another application's tables, or the library's of another installation, are no empty database.
_HAS_ANY: Final = """
    select exists (
        select from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema'
    )
"""


def make(
    owner_url: str,
    name: str,
    at: str | None,
    *,
    tenant_url: str | None,
    platform_url: str | None,
    relay_url: str | None,
    application: Sequence[MigrationEnvironment],
    installation: Installation,
) -> str:
    """Makes the database `name`, or uses the one `at`, and returns its owner's URL.

    Raises `StoreExists` if the database has something else in it.
    """
    created = at is None
    if at is None:
        at = _create(owner_url, name)
    with connect(at) as owner:
        with owner.transaction():
            _claim(owner, name)
        if created:
            owner.execute("revoke create on schema public from public")
    migrate(
        at,
        tenant_url=tenant_url,
        platform_url=platform_url,
        relay_url=relay_url,
        application=application,
        installation=installation,
        harden=created,
    )
    roles = installation.roles
    with connect(at) as owner:
        make_identity(owner, PUBLIC, name, None, roles.tenant, roles.platform)
        if relay_url is not None:
            owner.execute(
                sql.SQL("grant select on {} to {}").format(
                    sql.Identifier(PUBLIC, IDENTITY), sql.Identifier(roles.relay)
                )
            )
    return at


def made_here(owner: psycopg.Connection[Any], names: Sequence[str]) -> list[str]:
    """Returns those of the stores whose databases `make()` has created, on the owner's server."""
    found = owner.execute(_MADE, [list(names), f"{STORE_MARK}%"]).fetchall()
    return [name for (name,) in found]


def beside(owner_url: str, name: str) -> str:
    """Returns the owner's URL of the database `name` on the server of `owner_url`."""
    target = database_url(hidden(owner_url))
    return hidden(target.set(database=name).render_as_string(hide_password=False))


def drop(owner: psycopg.Connection[Any], name: str) -> None:
    """Drops the database that was made for the store; leaves one that was given."""
    found = owner.execute(_DATABASE.encode(), [name]).fetchone()
    if found is not None and str(found[0] or "").startswith(STORE_MARK):
        owner.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))


def login_at(runtime_url: str, owner_url: str) -> str:
    """Returns the URL of a runtime role's login at the database of `owner_url`."""
    runtime, there = database_url(hidden(runtime_url)), database_url(hidden(owner_url))
    same = (runtime.host, runtime.port) == (there.host, there.port)
    query = runtime.query if same else there.query
    url = URL.create(
        runtime.drivername,
        username=runtime.username,
        password=runtime.password,
        host=there.host,
        port=there.port,
        database=there.database,
        query=query,
    )
    return hidden(url.render_as_string(hide_password=False))


def _create(owner_url: str, name: str) -> str:
    target = database_url(hidden(owner_url))
    with connect(owner_url) as owner:
        found = owner.execute(_DATABASE.encode(), [name]).fetchone()
        if found is not None and not str(found[0] or "").startswith(STORE_MARK):
            raise StoreExists(
                f"there is already a database {name}, and it was not made for a store. Choose "
                "another name."
            )
        if found is None:
            try:
                owner.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            except psycopg.errors.InsufficientPrivilege:
                raise ConfigurationError(
                    f"{target.username} may not create databases. As a superuser, run ALTER ROLE "
                    f"{target.username} CREATEDB, or give the owner's URL of an empty database"
                ) from None
            owner.execute(
                sql.SQL("comment on database {} is {}").format(
                    sql.Identifier(name), sql.Literal(f"{STORE_MARK}nobody yet.")
                )
            )
    return beside(owner_url, name)


def _claim(owner: psycopg.Connection[Any], name: str) -> None:
    """Makes the database this store's, or raises `StoreExists`; the rights come at the end."""
    table = sql.Identifier(PUBLIC, IDENTITY)
    [(is_there,)] = owner.execute(_HAS_TABLE, [f"{PUBLIC}.{IDENTITY}"]).fetchall()
    if not is_there:
        if owner.execute(_HAS_ANY.encode()).fetchone() == (True,):
            raise StoreExists(
                f"the database {owner.info.dbname} has tables already. Give an empty one."
            )
        make_identity_table(owner, PUBLIC)
        owner.execute(sql.SQL("insert into {} (store) values (%s)").format(table), [name])
        return
    found = owner.execute(sql.SQL("select store, tenant_id from {}").format(table)).fetchone()
    if found is not None and found != (name, None):
        raise StoreExists(
            f"the database {owner.info.dbname} is the store {found[0]} already. Give another one."
        )

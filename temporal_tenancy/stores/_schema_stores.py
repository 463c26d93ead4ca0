"""Makes and drops schema stores: a schema with the application's tables, and a role for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import Connection

from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.library_schema import grant_schema
from temporal_tenancy.postgres.migrations import owners_transaction, upgrade_schema
from temporal_tenancy.postgres.roles import refuse_other_roles
from temporal_tenancy.postgres.store_roles import (
    admit_stores,
    make_identity,
    make_store_role,
    mark_of,
    refuse_elsewhere,
)
from temporal_tenancy.stores.errors import StoreExists

# One preparation at a time changes what all stores share: the group's rights.
_TURN: Final = (
    "insert into {locks} (name) values ('stores') on conflict (name) do update set name = "
    "excluded.name"
)
_SCHEMA: Final = """
    select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s
"""
_ROLE: Final = "select shobj_description(oid, 'pg_authid') from pg_roles where rolname = %s"


def make(
    owner_url: str,
    name: str,
    application: Sequence[MigrationEnvironment],
    installation: Installation,
) -> None:
    """Makes the schema and the role `name` in one transaction, unless a migration commits.

    Raises `StoreExists` if something else has that name.
    """
    with owners_transaction(owner_url) as (connection, owner):
        mark = mark_of(installation.roles)
        for kind, query in (("schema", _SCHEMA), ("role", _ROLE)):
            found = owner.execute(query.encode(), [name]).fetchone()
            if found is not None and found[0] != mark:
                raise StoreExists(
                    f"there is already a {kind} {name}, and it is not a store's. Choose another "
                    "name."
                )
        refuse_other_roles(owner, installation)
        admit(owner, installation)
        make_store_role(owner, name, installation)
        schema = sql.Identifier(name)
        owner.execute(sql.SQL("create schema if not exists {}").format(schema))
        owner.execute(sql.SQL("comment on schema {} is {}").format(schema, sql.Literal(mark)))
        platform = installation.roles.platform
        grant_schema(owner, name, [name, platform])
        upgrade(connection, owner, name, application, installation)
        make_identity(owner, name, name, None, name, platform)


def admit(owner: psycopg.Connection[Any], installation: Installation) -> None:
    """Gives stores' roles what the tenant role has on the library's tables, one call at a time."""
    owner.execute(sql.SQL(_TURN).format(locks=sql.Identifier(installation.schema, "locks")))
    admit_stores(owner, installation)


def upgrade(
    connection: Connection,
    owner: psycopg.Connection[Any],
    name: str,
    application: Sequence[MigrationEnvironment],
    installation: Installation,
) -> None:
    """Runs the migrations that the schema `name` lacks, in the transaction of `connection`.

    Raises `ExcessRights` if they give the store's role a right outside its schema.
    """
    roles = replace(installation.roles, tenant=name)
    upgrade_schema(connection, owner, name, application, replace(installation, roles=roles))
    refuse_elsewhere(owner, name, name)


def drop(owner: psycopg.Connection[Any], name: str) -> None:
    """Drops the schema with all that is in it, and the role; nothing if they do not exist."""
    owner.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))
    owner.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))

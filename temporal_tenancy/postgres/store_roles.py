"""The roles of schema stores: one for each store, and a group with the rights that all share.

A store's role has rights in the schema of its store alone. What it needs of the library's tables,
which are one set for the whole database, it has from the group: `<tenant role>_stores`. The tenant
role logs in, has none of these rights, and enters a store's role for a transaction.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database_errors import ExcessRights
from temporal_tenancy.postgres.installation import IDENTITY, Installation, Roles
from temporal_tenancy.postgres.role_checks import SHOWN, STORE_MARK
from temporal_tenancy.postgres.roles import grant
from temporal_tenancy.postgres.row_security import ACCESS_POLICY, ISOLATION_POLICY

GROUP_SUFFIX: Final = "_stores"

_EXISTS: Final = "select from pg_roles where rolname = %s"
# In the library's schema, the tables that the tenant role has rights on.
_TABLES: Final = """
    select distinct class.relname::text
    from pg_class as class
    join pg_namespace on pg_namespace.oid = relnamespace and nspname = %(schema)s
    join pg_policy on polrelid = class.oid and polname = %(policy)s
        and %(tenant)s::regrole = any(polroles)
    order by 1
"""
# What the tenant role has on the library's tables and columns, and the group lacks.
_LACKING: Final = """
    with rights as (
        select class.relname::text as name, null::text as attribute, entry.grantee,
            entry.privilege_type as privilege
        from pg_class as class, aclexplode(relacl) as entry
        where relnamespace = %(schema)s::regnamespace and relkind in ('r', 'p')
        union all
        select class.relname::text, attname::text, entry.grantee, entry.privilege_type
        from pg_class as class
        join pg_attribute on attrelid = class.oid, aclexplode(attacl) as entry
        where relnamespace = %(schema)s::regnamespace and relkind in ('r', 'p')
    )
    select name, attribute, privilege from rights where grantee = %(tenant)s::regrole
    except
    select name, attribute, privilege from rights where grantee = %(group)s::regrole
    order by 1, 3, 2
"""
_IS_LIMITED: Final = """
    select from pg_policy
    where polrelid = %(name)s::regclass and polname = %(policy)s
        and %(group)s::regrole = any(polroles)
"""
# The tables and other relations outside its schema that a store's role has rights or policies on.
_ELSEWHERE: Final = """
    select distinct class.oid::regclass::text
    from pg_shdepend
    left join pg_policy on classid = 'pg_policy'::regclass and pg_policy.oid = objid
    join pg_class as class
        on class.oid = polrelid or classid = 'pg_class'::regclass and class.oid = objid
    where dbid = (select oid from pg_database where datname = current_database())
        and refclassid = 'pg_authid'::regclass and refobjid = %(role)s::regrole
        and class.relnamespace <> %(schema)s::regnamespace
    order by 1
"""
_UUIDV7: Final = "select from pg_proc where proname = 'uuidv7' and pronamespace = %s::regnamespace"
_INHERITS: Final = "select rolinherit from pg_roles where rolname = %s"
_OPTIONS_SINCE: Final = 160000  # PostgreSQL's version from which a membership has its own options


def stores_group(roles: Roles) -> str:
    """Returns the name of the group that all stores' roles are members of."""
    return f"{roles.tenant}{GROUP_SUFFIX}"


def mark_of(roles: Roles) -> str:
    """Returns the comment on a store's role and on the group."""
    return f"{STORE_MARK}{roles.tenant}."


def store_roles(connection: psycopg.Connection[Any], roles: Roles) -> list[str]:
    """Returns the roles of stores on this server, without the group."""
    found = connection.execute(
        "select rolname::text from pg_roles "
        "where shobj_description(oid, 'pg_authid') = %s and rolname <> %s order by rolname",
        [mark_of(roles), stores_group(roles)],
    ).fetchall()
    return [role for (role,) in found]


def store_schemas(connection: psycopg.Connection[Any], roles: Roles) -> list[str]:
    """Returns the schemas of stores in this database, which have the names of their roles."""
    found = connection.execute(
        "select nspname::text from pg_namespace "
        "where obj_description(oid, 'pg_namespace') = %s order by nspname",
        [mark_of(roles)],
    ).fetchall()
    return [schema for (schema,) in found]


def admit_stores(connection: psycopg.Connection[Any], installation: Installation) -> None:
    """Gives the group what the tenant role has on the library's tables in this database.

    Call it before a database gets its first schema store, and after its migrations. Where nothing
    is missing, it changes nothing and takes no lock. The connection is the owner's.

    Raises `ConfigurationError` if the connection may not create the group.
    """
    roles, schema = installation.roles, installation.schema
    group = stores_group(roles)
    _make_role(connection, group, roles, inherit=False)
    parameters = {"schema": schema, "tenant": roles.tenant, "group": group}
    if not _has_usage(connection, group, schema):
        _execute(connection, "grant usage on schema {} to {}", schema, group)
    _admit_bulk_loads(connection, roles)
    if connection.execute(_UUIDV7, [schema]).fetchone() is not None:
        connection.execute(
            sql.SQL("grant execute on function {}.uuidv7() to {}").format(
                sql.Identifier(schema), sql.Identifier(group)
            )
        )
    for name, attribute, privilege in connection.execute(_LACKING, parameters).fetchall():
        columns: sql.Composable = sql.SQL("")
        if attribute is not None:
            columns = sql.SQL(" ({})").format(sql.Identifier(attribute))
        connection.execute(
            sql.SQL("grant {}{} on {} to {}").format(
                sql.SQL(privilege), columns, sql.Identifier(schema, name), sql.Identifier(group)
            )
        )
    for (name,) in connection.execute(
        _TABLES, parameters | {"policy": ISOLATION_POLICY}
    ).fetchall():
        table = sql.Identifier(schema, name)
        for policy in (ISOLATION_POLICY, ACCESS_POLICY):
            limits = {"name": table.as_string(connection), "policy": policy, "group": group}
            if connection.execute(_IS_LIMITED, limits).fetchone() is None:
                connection.execute(
                    sql.SQL("alter policy {} on {} to {}, {}").format(
                        sql.Identifier(policy),
                        table,
                        sql.Identifier(roles.tenant),
                        sql.Identifier(group),
                    )
                )


def make_store_role(
    connection: psycopg.Connection[Any], role: str, installation: Installation
) -> None:
    """Creates the role of a store, which the tenant role may enter; safe to repeat.

    It cannot log in, owns nothing, and is a member of the group alone.

    Raises `ConfigurationError` if the connection may not create or grant it, or if the tenant role
    would have its rights without entering it.
    """
    roles = installation.roles
    # Its only membership is the group's, whose rights it is to have.
    _make_role(connection, role, roles, inherit=True)
    _execute(connection, "grant {} to {}", stores_group(roles), role)
    if connection.info.server_version >= _OPTIONS_SINCE:
        _execute(connection, "grant {} to {} with inherit false, set true", role, roles.tenant)
        return
    # Before, it is the member's attribute that decides.
    if connection.execute(_INHERITS, [roles.tenant]).fetchone() == (True,):
        raise ConfigurationError(
            f"the role {roles.tenant} inherits the rights of the roles that it is a member of, so "
            f"it would have those of every store at once. Run ALTER ROLE {roles.tenant} NOINHERIT."
        )
    _execute(connection, "grant {} to {}", role, roles.tenant)


def refuse_elsewhere(connection: psycopg.Connection[Any], role: str, schema: str) -> None:
    """Raises `ExcessRights` if a store's role has rights or policies outside its schema."""
    found = connection.execute(_ELSEWHERE, {"role": role, "schema": schema}).fetchall()
    if found:
        tables = ", ".join(printable(name) for (name,) in found[:SHOWN])
        raise ExcessRights(
            f"the role {role} has rights on {tables}, outside its store's schema {schema}. Let the "
            "migrations name no schema: the search_path says which one they run in."
        )


def make_identity(
    connection: psycopg.Connection[Any],
    schema: str,
    store: str,
    tenant_id: str | None,
    role: str,
    platform: str | None = None,
) -> None:
    """Creates the table with a store's identity and sets its row; safe to repeat.

    Args:
        connection: a connection of the owner.
        schema: the schema of the tenant's tables.
        store: the store's name.
        tenant_id: whose it is; None: nobody's yet.
        role: the one that reads a tenant's rows there, which may read the row and not write it.
        platform: the one that says whose the store is when it is given out; None: nobody.
    """
    table = make_identity_table(connection, schema)
    connection.execute(sql.SQL("grant select on {} to {}").format(table, sql.Identifier(role)))
    if platform is not None:
        connection.execute(
            sql.SQL("grant select, update (tenant_id) on {} to {}").format(
                table, sql.Identifier(platform)
            )
        )
    connection.execute(
        sql.SQL(
            "insert into {} (store, tenant_id) values (%s, %s) "
            "on conflict (one_row) do update set store = excluded.store, "
            "tenant_id = excluded.tenant_id"
        ).format(table),
        [store, tenant_id],
    )


def make_identity_table(connection: psycopg.Connection[Any], schema: str) -> sql.Identifier:
    """Creates the table with a store's identity, for one row and without rights; returns it."""
    table = sql.Identifier(schema, IDENTITY)
    connection.execute(
        sql.SQL(
            "create table if not exists {} ("
            "store text not null, tenant_id text, "
            "one_row boolean primary key default true check (one_row))"
        ).format(table)
    )
    return table


def _make_role(
    connection: psycopg.Connection[Any], role: str, roles: Roles, *, inherit: bool
) -> None:
    if connection.execute(_EXISTS, [role]).fetchone() is not None:
        return
    kind = sql.SQL("inherit" if inherit else "noinherit")
    try:
        connection.execute(sql.SQL("create role {} nologin {}").format(sql.Identifier(role), kind))
    except psycopg.errors.InsufficientPrivilege:
        user = connection.info.user
        raise ConfigurationError(
            f"{user} may not create the role {role}. As a superuser, run ALTER ROLE {user} "
            "CREATEROLE."
        ) from None
    connection.execute(
        sql.SQL("comment on role {} is {}").format(
            sql.Identifier(role), sql.Literal(mark_of(roles))
        )
    )


def _admit_bulk_loads(connection: psycopg.Connection[Any], roles: Roles) -> None:
    """Lets stores' roles make temporary tables, as the tenant role may: COPY goes through them."""
    database, group = connection.info.dbname, stores_group(roles)
    query = "select has_database_privilege(%s, %s, 'TEMPORARY')"
    may, lacks = (
        connection.execute(query, [role, database]).fetchone() == (has,)
        for role, has in ((roles.tenant, True), (group, False))
    )
    if may and lacks:
        grant(connection, group, "temporary", "database", database)


def _has_usage(connection: psycopg.Connection[Any], role: str, schema: str) -> bool:
    query = "select has_schema_privilege(%s, %s, 'USAGE')"
    return connection.execute(query, [role, schema]).fetchone() == (True,)


def _execute(connection: psycopg.Connection[Any], statement: LiteralString, *names: str) -> None:
    """Runs a grant with these identifiers in its places."""
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

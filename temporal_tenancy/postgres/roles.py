"""The runtime roles, and their rights in the database as a whole.

The migration that creates a table grants the rights on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database_errors import ExcessRights
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation, Roles
from temporal_tenancy.postgres.role_checks import refuse_excess_rights
from temporal_tenancy.postgres.secret_texts import hidden

# The names of the roles in an installation that names none.
TENANT_ROLE: Final = "tenancy_tenant"
"""The database role that reads and writes one tenant's rows at a time."""
PLATFORM_ROLE: Final = "tenancy_platform"  # reads and writes the control plane
RELAY_ROLE: Final = "tenancy_relay"  # turns outbox messages into workflows
RUNTIME_ROLES: Final = (TENANT_ROLE, PLATFORM_ROLE, RELAY_ROLE)

NO_PASSWORD: Final = ""  # that of a URL without one

# The limits of sessions that set none: a forgotten script, code that does not use the engines, and
# the previous release. So they are generous. The platform runs short statements all the time; a
# tenant's work grows with the tenant.
_PLATFORM_LIMITS: Final = {
    "statement_timeout": "5min",
    "lock_timeout": "1min",
    "idle_in_transaction_session_timeout": "5min",
    "transaction_timeout": "15min",
}
ROLE_LIMITS: Final[Mapping[str, Mapping[str, str]]] = {
    TENANT_ROLE: {
        "statement_timeout": "15min",
        "lock_timeout": "5min",
        "idle_in_transaction_session_timeout": "15min",
        "transaction_timeout": "1h",
    },
    PLATFORM_ROLE: _PLATFORM_LIMITS,
    RELAY_ROLE: _PLATFORM_LIMITS,
}

# The comment on a role that says whose it is.
MARK: Final = "Created by temporal-tenancy, which sets its password and its time limits."

_EXISTS: Final = "select from pg_roles where rolname = %s"
_IS_MARKED: Final = """
    select coalesce(shobj_description(oid, 'pg_authid') = %s, false) from pg_roles
    where rolname = %s
"""
# Until PostgreSQL 15, CREATEROLE sufficed.
_MAY_ALTER: Final = """
    select rolsuper or rolcreaterole and (
        current_setting('server_version_num')::int < 160000
        or pg_has_role(oid, %s, 'MEMBER WITH ADMIN OPTION')
    )
    from pg_roles
    where rolname = current_user
"""
# The roles that the policies on dead letters are for. To read them needs no right on the table.
_POLICIES_OF: Final = """
    select
        -- Not the group of the stores' roles, whose name is the tenant role's and more.
        min(rolname) filter (where polname = 'tenant_access'),
        max(rolname) filter (where polname = 'platform_access'),
        max(rolname) filter (where polname = 'relay_access')
    from pg_policy
    join pg_roles on pg_roles.oid = any(polroles)
    join pg_class on pg_class.oid = polrelid
    where relname = 'dead_letters'
        and relnamespace = (select oid from pg_namespace where nspname = %s)
    having count(*) > 0
"""
# An application may have dropped it.
_PUBLIC_SCHEMA: Final = "select nspname::text from pg_namespace where nspname = 'public'"
_CURRENT_USER: Final = "select current_user::text"


class RoleUrlWrong(ConfigurationError):
    """The URL of a runtime role is of another role, or has no password."""

    def __init__(self, role: str, message: str) -> None:
        """`role`: the one that the URL is for."""
        self.role = role
        super().__init__(message)


def password_of(url: str, role: str) -> str:
    """Returns the password that `url` gives `role`, or `NO_PASSWORD`.

    Raises:
        RoleUrlWrong: the URL has another role, or is not a PostgreSQL URL.
    """
    url = hidden(url)
    try:
        parsed = database_url(url)
    except ConfigurationError as error:
        raise RoleUrlWrong(role, str(error)) from None
    if parsed.username != role:
        raise RoleUrlWrong(role, f"this database URL must have the role {role}. Log in as {role}.")
    return hidden(str(parsed.password)) if parsed.password else NO_PASSWORD


def ensure_role(connection: psycopg.Connection[Any], role: str, password: str | None) -> None:
    """Creates the login role `role`, or checks what it may do if it exists.

    A role that exists keeps its password: `set_password()` sets that of one that is the library's.

    Args:
        connection: a connection of the owner.
        role: the role's name.
        password: of a new role; None: it cannot log in, and exists only for policies to name.

    Raises:
        ConfigurationError: the role does not exist, and there is no password for it or the
            connection may not create roles.
        ExcessRights: the role exists and may do more than log in.
    """
    _refuse_owner(connection, role)
    if connection.execute(_EXISTS, [role]).fetchone() is None:
        _create(connection, role, password)
        return
    refuse_excess_rights(connection, role)


def set_password(connection: psycopg.Connection[Any], role: str, password: str | None) -> None:
    """Gives the login role `role` its password, if the library may and it is the library's.

    Raises `ConfigurationError` if it is, and the URL has no password.
    """
    if password is not None and is_ours(connection, role) and may_alter(connection, role):
        connection.execute(
            sql.SQL("alter role {} {}").format(
                sql.Identifier(role), _login(connection, role, password)
            )
        )


def is_ours(connection: psycopg.Connection[Any], role: str) -> bool:
    """Whether the library made `role`: it has a default name, or the library's comment.

    Any other role is the application's, and is never altered.
    """
    marked = connection.execute(_IS_MARKED, [MARK, role]).fetchone()
    return role in RUNTIME_ROLES or (marked is not None and bool(marked[0]))


def may_alter(connection: psycopg.Connection[Any], role: str) -> bool:
    """Whether the connection's role may alter `role`, which exists and is no superuser."""
    row = connection.execute(_MAY_ALTER, [role]).fetchone()
    return row is not None and bool(row[0])


def refuse_other_roles(connection: psycopg.Connection[Any], installation: Installation) -> None:
    """Raises `ConfigurationError` if the database was migrated with roles of other names.

    Its policies and triggers name those.
    """
    roles = installation.roles
    found = connection.execute(_POLICIES_OF, [installation.schema]).fetchone()
    if found is not None and found != tuple(roles):
        raise ConfigurationError(
            f"this database was migrated with the roles {', '.join(map(str, found))}, and its "
            f"policies name them. Name those roles, rather than {', '.join(roles)}."
        )


def grant_database(connection: psycopg.Connection[Any], roles: Roles) -> None:
    """Lets `roles` connect to this database and use its public schema; revokes nothing.

    Repeat it after CREATE DATABASE ... TEMPLATE, which does not copy rights on the database.

    Raises `ConfigurationError` if the connection may not grant a right that a role lacks.
    """
    schemas = connection.execute(_PUBLIC_SCHEMA).fetchall()
    for role in roles:
        grant(connection, role, "connect", "database", connection.info.dbname)
        for (schema,) in schemas:
            grant(connection, role, "usage", "schema", schema)
    # COPY FROM does not work on tables with row-level security: bulk loads use temporary ones.
    grant(connection, roles.tenant, "temporary", "database", connection.info.dbname)


def grant(
    connection: psycopg.Connection[Any],
    role: str,
    right: LiteralString,
    kind: LiteralString,
    name: str,
) -> None:
    """Grants a right on a database or a schema; raises `ConfigurationError` if it may not.

    Does nothing if the role has the right from somebody else.
    """
    statement = sql.SQL("grant {} on {} {} to {}").format(
        sql.SQL(right), sql.SQL(kind), sql.Identifier(name), sql.Identifier(role)
    )
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        pass  # the role may have it from somebody else
    # A role without the right to grant may also get a warning and no error.
    query = sql.SQL("select {}(%s, %s, %s)").format(sql.Identifier(f"has_{kind}_privilege"))
    if connection.execute(query, [role, name, right]).fetchone() != (True,):
        raise ConfigurationError(
            f"{connection.info.user} may not give {role} the right {right.upper()} on the {kind} "
            f"{name}. As its owner, run {statement.as_string(connection)}."
        )


def limit_roles(connection: psycopg.Connection[Any], roles: Roles | None = None) -> None:
    """Sets the runtime roles' limits in this database; skips settings that the server lacks.

    A role that is the application's, or that the connection may not alter, keeps its settings.
    Repeat it after CREATE DATABASE ... TEMPLATE, which does not copy settings of roles.
    """
    database = sql.Identifier(connection.info.dbname)
    for role, limits in zip(roles or Roles(), ROLE_LIMITS.values(), strict=True):
        if not (is_ours(connection, role) and may_alter(connection, role)):
            continue
        known = connection.execute(
            "select name from pg_settings where name = any(%s)", [list(limits)]
        ).fetchall()
        for (name,) in known:
            connection.execute(
                sql.SQL("alter role {role} in database {database} set {name} = {value}").format(
                    role=sql.Identifier(role),
                    database=database,
                    name=sql.Identifier(name),
                    value=sql.Literal(limits[name]),
                )
            )


def _refuse_owner(connection: psycopg.Connection[Any], role: str) -> None:
    row = connection.execute(_CURRENT_USER).fetchone()
    if row is not None and row[0] == role:
        raise ExcessRights(
            f"the role {role} migrates the database, so it owns the tables and may drop their "
            "policies. Name another role for run time, or migrate as another one."
        )


def _create(connection: psycopg.Connection[Any], role: str, password: str | None) -> None:
    user = connection.info.user
    name = sql.Identifier(role)
    login: sql.Composable = sql.SQL("nologin noinherit")
    if password is not None:
        login = _login(connection, role, password)
    # Attributes that are not named here are off for a new role.
    try:
        connection.execute(sql.SQL("create role {} {}").format(name, login))
    except psycopg.errors.InsufficientPrivilege:
        raise ConfigurationError(
            f"{user} may not create the role {role}. As a superuser, run ALTER ROLE {user} "
            "CREATEROLE, or create the role yourself."
        ) from None
    connection.execute(sql.SQL("comment on role {} is {}").format(name, sql.Literal(MARK)))


def _login(connection: psycopg.Connection[Any], role: str, password: str) -> sql.Composable:
    if password == NO_PASSWORD:
        raise RoleUrlWrong(role, f"the database URL of {role} has no password. Add one.")
    # Hashed here, so that no statement or server log contains the password.
    secret = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    return sql.SQL("login noinherit password {}").format(sql.Literal(secret))

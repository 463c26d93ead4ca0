"""The runtime roles, and their rights in the database as a whole.

The migration that creates a table grants the rights on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import sql

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database import database_url
from temporal_tenancy.postgres.database_errors import ExcessRights

TENANT_ROLE: Final = "tenancy_tenant"
"""The database role that reads and writes one tenant's rows at a time."""
PLATFORM_ROLE: Final = "tenancy_platform"  # reads and writes the control plane
RELAY_ROLE: Final = "tenancy_relay"  # turns outbox messages into workflows
RUNTIME_ROLES: Final = (TENANT_ROLE, PLATFORM_ROLE, RELAY_ROLE)

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

_EXCESS: Final = """
    select rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
    from pg_roles
    where rolname = %s
"""
_MAY_ALTER: Final = "select pg_has_role(current_user, %s, 'MEMBER WITH ADMIN OPTION')"


def password_of(url: str, role: str) -> str:
    """Returns the password that `url` gives `role`.

    Raises:
        ConfigurationError: the URL has another role or no password, or is not a PostgreSQL URL.
    """
    parsed = database_url(url)
    if parsed.username != role:
        raise ConfigurationError(f"this database URL must have the role {role}. Log in as {role}.")
    if not isinstance(parsed.password, str) or not parsed.password:
        raise ConfigurationError(f"the database URL of {role} has no password. Add one.")
    return parsed.password


def ensure_role(connection: psycopg.Connection[Any], role: str, password: str | None) -> None:
    """Creates the login role `role`, or sets its password if it exists.

    A role that this connection may not alter keeps its password. With `password` None a new role
    cannot log in, and exists only for policies to name.

    Raises:
        ConfigurationError: the role does not exist, and the connection may not create roles.
        ExcessRights: the role exists and may do more than log in.
    """
    name = sql.Identifier(role)
    login: sql.Composable = sql.SQL("nologin noinherit")
    if password is not None:
        # Hashed here, so that no statement or server log contains the password.
        secret = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        login = sql.SQL("login noinherit password {}").format(sql.Literal(secret))
    existing = connection.execute(_EXCESS, [role]).fetchone()
    if existing is None:
        # Attributes that are not named here are off for a new role.
        try:
            connection.execute(sql.SQL("create role {} {}").format(name, login))
        except psycopg.errors.InsufficientPrivilege:
            raise ConfigurationError(
                f"{connection.info.user} may not create the role {role}. As a superuser, run ALTER "
                f"ROLE {connection.info.user} CREATEROLE, or create the role yourself."
            ) from None
        return
    if existing[0]:
        raise ExcessRights(
            f"the role {role} is a superuser, or may bypass row-level security, replicate, or "
            f"create roles or databases. Run ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS "
            "NOREPLICATION NOCREATEROLE NOCREATEDB."
        )
    may_alter = connection.execute(_MAY_ALTER, [role]).fetchone()
    if password is not None and may_alter is not None and may_alter[0]:
        connection.execute(sql.SQL("alter role {} {}").format(name, login))


def grant_database(connection: psycopg.Connection[Any], roles: list[str]) -> None:
    """Lets `roles`, and not PUBLIC, connect to this database and use its public schema.

    Repeat it after CREATE DATABASE ... TEMPLATE, which does not copy rights on the database.
    """
    database = sql.Identifier(connection.info.dbname)
    names = sql.SQL(", ").join(sql.Identifier(role) for role in roles)
    for statement in (
        "revoke all on database {database} from public",
        "revoke all on schema public from public",
        "alter default privileges revoke execute on functions from public",
        "grant connect on database {database} to {roles}",
        "grant usage on schema public to {roles}",
        # COPY FROM does not work on tables with row-level security: bulk loads use temporary ones.
        "grant temporary on database {database} to {tenant}",
    ):
        connection.execute(
            sql.SQL(statement).format(
                database=database, roles=names, tenant=sql.Identifier(TENANT_ROLE)
            )
        )


def limit_roles(connection: psycopg.Connection[Any]) -> None:
    """Sets the runtime roles' limits in this database; skips settings that the server lacks.

    A role that the connection may not alter keeps its settings. Repeat it after CREATE DATABASE
    ... TEMPLATE, which does not copy settings of roles.
    """
    database = sql.Identifier(connection.info.dbname)
    for role, limits in ROLE_LIMITS.items():
        known = connection.execute(
            "select name from pg_settings where name = any(%s)", [list(limits)]
        ).fetchall()
        for (name,) in known:
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    sql.SQL("alter role {role} in database {database} set {name} = {value}").format(
                        role=sql.Identifier(role),
                        database=database,
                        name=sql.Identifier(name),
                        value=sql.Literal(limits[name]),
                    )
                )

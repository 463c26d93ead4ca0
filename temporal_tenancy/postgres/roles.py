"""The roles of the running system, and what each may do in the database as a whole.

What a role may do with a table is granted where the table is made.
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

# What a session has that sets no limits of its own: that of a forgotten script, of whatever comes
# past the engines, and of the release before. So they are wide. The platform's work is short
# statements by day and night, a tenant's is as large as the tenant.
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
        ConfigurationError: the URL is of another role, or has no password.
    """
    parsed = database_url(url)
    if parsed.username != role:
        raise ConfigurationError(
            f"this database URL is to be of the role {role}. Log in as {role}."
        )
    if not isinstance(parsed.password, str) or not parsed.password:
        raise ConfigurationError(f"the database URL of {role} has no password. Add one.")
    return parsed.password


def ensure_role(connection: psycopg.Connection[Any], role: str, password: str | None) -> None:
    """Makes the login role `role`, or gives it `password` where it is there already.

    A role that was made by someone else keeps its password. Without a password the role is made
    so that policies can name it, and cannot log in.

    Raises:
        ConfigurationError: the role is not there, and the connection may not make roles.
        ExcessRights: the role is there, and may do more than log in.
    """
    name = sql.Identifier(role)
    login: sql.Composable = sql.SQL("nologin noinherit")
    if password is not None:
        # Hashed here, so that the password is in no statement and no server log.
        secret = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        login = sql.SQL("login noinherit password {}").format(sql.Literal(secret))
    there = connection.execute(_EXCESS, [role]).fetchone()
    if there is None:
        # What is not named here is off for a new role.
        try:
            connection.execute(sql.SQL("create role {} {}").format(name, login))
        except psycopg.errors.InsufficientPrivilege:
            raise ConfigurationError(
                f"{connection.info.user} may not make the role {role}. ALTER ROLE "
                f"{connection.info.user} CREATEROLE as a superuser, or make the role yourself."
            ) from None
        return
    if there[0]:
        raise ExcessRights(
            f"the role {role} is a superuser, or may bypass row-level security, replicate, or make "
            f"roles or databases. Take that from it: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS "
            "NOREPLICATION NOCREATEROLE NOCREATEDB."
        )
    altered = connection.execute(_MAY_ALTER, [role]).fetchone()
    if password is not None and altered is not None and altered[0]:
        connection.execute(sql.SQL("alter role {} {}").format(name, login))


def grant_database(connection: psycopg.Connection[Any], roles: list[str]) -> None:
    """Lets `roles`, and no others, connect to this database and use its schema.

    Needed again after CREATE DATABASE ... TEMPLATE, which copies no rights on the database.
    """
    database = sql.Identifier(connection.info.dbname)
    names = sql.SQL(", ").join(sql.Identifier(role) for role in roles)
    for statement in (
        "revoke all on database {database} from public",
        "revoke all on schema public from public",
        "alter default privileges revoke execute on functions from public",
        "grant connect on database {database} to {roles}",
        "grant usage on schema public to {roles}",
        # COPY is refused on a table with row-level security: bulk loads go by a temporary one.
        "grant temporary on database {database} to {tenant}",
    ):
        connection.execute(
            sql.SQL(statement).format(
                database=database, roles=names, tenant=sql.Identifier(TENANT_ROLE)
            )
        )


def limit_roles(connection: psycopg.Connection[Any]) -> None:
    """Gives the runtime roles their limits in this database, as far as the server knows them.

    A role that the connection may not alter keeps what whoever made it has given it. Needed again
    after CREATE DATABASE ... TEMPLATE, which copies no settings of roles.
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

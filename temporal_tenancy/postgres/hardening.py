"""Rights that every role of the server has in a database, and taking them away on request.

Row-level security holds with them. Without them, a role needs a grant to connect at all, so that a
mistake in another application's policies or grants stays its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.installation import Roles

# What PUBLIC has on the database and on its schema public, with the roles that have it in no other
# way: not by a grant to them or to a role that they inherit from, and not as owner or superuser.
_OPEN: Final = """
    with objects as (
        select
            'DATABASE' as kind, datname::text as name, datdba as owner,
            coalesce(datacl, acldefault('d', datdba)) as acl
        from pg_database
        where datname = current_database()
        union all
        select 'SCHEMA', nspname::text, nspowner, coalesce(nspacl, acldefault('n', nspowner))
        from pg_namespace
        where nspname = 'public'
    ),
    rights as (
        select kind, name, owner, acl, privilege_type
        from objects, aclexplode(acl)
        where grantee = 0
    )
    select
        kind, quote_ident(name), array_agg(privilege_type::text order by privilege_type),
        array(
            select distinct quote_ident(rolname)
            from pg_roles, rights as lost
            where lost.kind = rights.kind and rolcanlogin and not rolsuper
                and rolname <> all(%s)
                and not pg_has_role(pg_roles.oid, lost.owner, 'USAGE')
                and not exists (
                    select from aclexplode(lost.acl) as other
                    where other.privilege_type = lost.privilege_type and other.grantee <> 0
                        and pg_has_role(pg_roles.oid, other.grantee, 'USAGE')
                )
                -- Without a right on a table in it, a role misses nothing in a schema.
                and (
                    kind = 'DATABASE'
                    and has_database_privilege(pg_roles.oid, current_database(), 'CONNECT')
                    or exists (
                        select from pg_class
                        where relnamespace = 'public'::regnamespace and relkind <> 'i'
                            and has_table_privilege(pg_roles.oid, pg_class.oid, 'SELECT')
                    )
                )
            order by 1
        )
    from rights
    group by kind, name
    order by kind
"""
# Without an entry, PUBLIC may execute each function that the role creates.
_OPEN_FUNCTIONS: Final = """
    select quote_ident(current_user)
    where not exists (
        select from pg_default_acl
        where defaclrole = current_user::regrole and defaclnamespace = 0 and defaclobjtype = 'f'
            and not exists (select from aclexplode(defaclacl) where grantee = 0)
    )
"""


@dataclass(frozen=True)
class Opening:
    """A right that every role of the server has, and that `harden()` takes away."""

    right: str  # such as "CONNECT, TEMPORARY on the database saas"
    revoke: str  # the statement that takes it away
    roles: tuple[str, ...] = ()  # that have it in no other way, and so would lose it

    def __str__(self) -> str:
        lost = (
            f" Roles that have it in no other way: {', '.join(self.roles)}." if self.roles else ""
        )
        return f"every role has {self.right}. {self.revoke} takes it away.{lost}"


def openings(connection: psycopg.Connection[Any], roles: Roles) -> list[Opening]:
    """Returns what `harden()` would take away; the connection is the owner's.

    The runtime `roles` lose nothing: they get grants of their own.
    """
    found = [
        Opening(
            f"{', '.join(rights)} on the {kind.lower()} {name}",
            f"REVOKE ALL ON {kind} {name} FROM PUBLIC",
            tuple(roles),
        )
        for kind, name, rights, roles in connection.execute(_OPEN, [list(roles)]).fetchall()
    ]
    for (owner,) in connection.execute(_OPEN_FUNCTIONS).fetchall():
        found.append(
            Opening(
                f"EXECUTE on the functions that {owner} will create",
                "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            )
        )
    return found


def harden(connection: psycopg.Connection[Any], roles: Roles) -> list[Opening]:
    """Takes away what every role has in this database, and returns what that was.

    Another application's roles then need grants of their own. The connection is the owner's.

    Raises `ConfigurationError` if it may not take away all of it.
    """
    found = openings(connection, roles)
    for opening in found:
        connection.execute(opening.revoke.encode())
    left = openings(connection, roles)
    if left:
        raise ConfigurationError(
            f"{connection.info.user} may not take away all that every role has. As the owner of "
            f"the object, run {left[0].revoke}."
        )
    return found

"""Refuses logins to which row-level security does not apply."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.postgres.database_errors import ExcessRights
from temporal_tenancy.postgres.raw_session import RawSession
from temporal_tenancy.postgres.row_security import ISOLATION_POLICY

# Both roles: SQL returns to the login role with RESET ROLE. The tables are those that protect() has
# been called on; PostgreSQL applies a policy to a role that inherits the rights of one it names.
_EXCESS: Final = f"""
    with roles as (
        select oid, rolname, rolsuper, rolbypassrls
        from pg_catalog.pg_roles
        where rolname in (current_user, session_user)
    ),
    protected as (
        select class.oid, class.relowner, policy.polroles
        from pg_catalog.pg_policy as policy
        join pg_catalog.pg_class as class on class.oid = policy.polrelid
        where policy.polname = '{ISOLATION_POLICY}'
    )
    select rolname::text as role, 'is a superuser or bypasses row-level security' as reason
    from roles
    where rolsuper or rolbypassrls
    union all
    select rolname, 'may act as the owner of ' || protected.oid::regclass
    from roles join protected on pg_has_role(roles.oid, relowner, 'MEMBER')
    union all
    select rolname, 'has rights on ' || protected.oid::regclass || ' that its policy does not limit'
    from roles join protected on not (
        0 = any(polroles)
        or exists (
            select from unnest(polroles) as limited where pg_has_role(roles.oid, limited, 'USAGE')
        )
    )
    where has_any_column_privilege(roles.oid, protected.oid, 'SELECT, INSERT, UPDATE')
        or has_table_privilege(roles.oid, protected.oid, 'DELETE, TRUNCATE')
    limit 1
"""  # noqa: S608


async def refuse_excess_rights(session: RawSession) -> None:
    """Raises `ExcessRights` if a role of this connection sees the rows of more than one tenant.

    It asks once for each connection, and again when the connection's role has changed.
    """
    rows = await session.send(_EXCESS)
    if rows:
        raise ExcessRights(
            f"the role {rows[0].role} {rows[0].reason}, so it would see the rows of all tenants. "
            "Connect as the tenant role, which owns nothing."
        )

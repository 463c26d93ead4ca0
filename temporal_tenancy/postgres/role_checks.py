"""The checks of what a runtime role may do, each a query that returns the rights it must not have.

`migrate()` runs them before it gives a role rights, and the catalogue lint afterwards. A query
returns rows of (object, detail). `ROLE_TABLES` goes before it, with tables of this system's part of
the catalogue. Its parameters are `runtime` (role names), `through_public` (whether a right that
every role of the server has counts), `schema` (of the library's tables, whose names are
`library_name`) and `stores` (the beginning of the comments on the roles of stores).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from temporal_tenancy.core.display import printable
from temporal_tenancy.postgres.database_errors import ExcessRights
from temporal_tenancy.postgres.installation import SCHEMA

STORE_MARK: Final = "Created by temporal-tenancy for stores, whose tenants are served by "
"""The beginning of the comment on a store's role and on the group; the tenant role ends it."""

SHOWN: Final = 5  # objects of one kind in a sentence

ROLE_TABLES: Final = """
    with recursive runtime as (
        select oid, rolname, rolsuper, rolbypassrls, rolreplication, rolcreaterole, rolcreatedb
        from pg_roles
        where rolname = any(%(runtime)s)
    ),
    schemas as (
        select oid, nspname, nspowner, nspacl
        from pg_namespace
        where nspname !~ '^pg_' and nspname <> 'information_schema'
    ),
    relations as (
        select
            class.oid, class.relname, class.oid::regclass::text as name, class.relkind,
            schemas.nspname as schema_name,
            class.relowner, class.relacl, class.reloptions,
            class.relrowsecurity, class.relforcerowsecurity,
            case when schemas.nspname = %(schema)s then class.relname end as library_name,
            exists (select from pg_inherits where inhrelid = class.oid) as is_child
        from pg_class as class
        join schemas on schemas.oid = class.relnamespace
        where class.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    )
"""


@dataclass(frozen=True)
class Check:
    """One kind of fault that the catalogue must not have."""

    id: str
    message: str  # what is wrong, why and what to run; with {object}, {detail} and {more}
    query: LiteralString
    tables: LiteralString = ""  # more WITH tables, after those of COMMON
    open: bool = False  # a right that gives no role the rows of another tenant


ROLE_CHECKS: Final = (
    Check(
        "role-attribute",
        "the role {object} {detail}.",
        """
        select rolname, format('%%s. Run ALTER ROLE %%I NO%%s', fault, rolname, attribute)
        from runtime, lateral (values
            (rolsuper, 'SUPERUSER', 'is a superuser, to whom no policy or grant applies'),
            (rolbypassrls, 'BYPASSRLS', 'bypasses row-level security'),
            (rolreplication, 'REPLICATION', 'may replicate, which reads the rows of all tenants'),
            (rolcreaterole, 'CREATEROLE', 'may create roles, and grant itself their rights'),
            (rolcreatedb, 'CREATEDB', 'may create databases, which no runtime role needs')
        ) as attributes (is_set, attribute, fault)
        where is_set
        """,
    ),
    Check(
        "role-membership",
        "the role {object} is a member of {detail}, so SET ROLE gives it that role's rights. "
        "Run REVOKE {detail} FROM {object}, or revoke the membership in between.",
        """
        select quote_ident(runtime.rolname), quote_ident(other.rolname)
        from runtime
        join pg_roles as other on other.oid <> runtime.oid
        where not runtime.rolsuper and pg_has_role(runtime.oid, other.oid, 'MEMBER')
            and other.rolname <> 'pg_database_owner'  -- nobody is granted it
            -- The tenant role enters the roles of stores, which are members of their group. The
            -- comments on all of them end with its name; see store_roles.
            and (
                shobj_description(other.oid, 'pg_authid') = %(stores)s || runtime.rolname || '.'
                or shobj_description(other.oid, 'pg_authid')
                        = shobj_description(runtime.oid, 'pg_authid')
                    and shobj_description(other.oid, 'pg_authid')
                        = %(stores)s || regexp_replace(other.rolname, '_stores$', '') || '.'
            ) is not true  -- a role without a comment is none of them
        """,
    ),
    Check(
        "role-owns",
        "the role {detail} owns {object}, so it may drop the policies of what it owns. {more}.",
        """
        select
            name, rolname,
            -- To reassign, a role without superuser must be a member of both.
            format(
                'As a superuser, run REASSIGN OWNED BY %%1$s TO %%2$s; or, as %%2$s: GRANT %%1$s '
                'TO %%2$s; REASSIGN OWNED BY %%1$s TO %%2$s; REVOKE %%1$s FROM %%2$s',
                quote_ident(rolname),
                case when heir = rolname then 'another_role' else quote_ident(heir) end
            )
        from (
            select pg_get_userbyid(datdba) as heir
            from pg_database
            where datname = current_database()
        ) as databases, (
            select name, rolname from relations join runtime on runtime.oid = relowner
            union all
            select 'schema ' || nspname, rolname from schemas join runtime on runtime.oid = nspowner
            union all
            select 'database ' || datname, rolname
            from pg_database join runtime on runtime.oid = datdba
            where datname = current_database()
            union all
            select 'function ' || proc.oid::regprocedure, rolname
            from pg_proc as proc
            join schemas on schemas.oid = proc.pronamespace
            join runtime on runtime.oid = proc.proowner
            union all
            -- All other kinds of object, which only a role with CREATE on a schema or on the
            -- database can make.
            select pg_describe_object(classid, objid, 0), rolname
            from pg_shdepend
            join runtime on refclassid = 'pg_authid'::regclass and refobjid = runtime.oid
            where deptype = 'o'
                and dbid = (select oid from pg_database where datname = current_database())
                and classid not in (
                    'pg_class'::regclass, 'pg_namespace'::regclass, 'pg_proc'::regclass,
                    'pg_largeobject'::regclass, 'pg_default_acl'::regclass,
                    'pg_user_mapping'::regclass
                )
                and coalesce((pg_identify_object(classid, objid, 0)).schema, '') !~ '^pg_temp'
        ) as owned (name, rolname)
        """,
    ),
    Check(
        "role-creates",
        "the role {detail} may create objects in {object}, and its own objects have no policies. "
        "Run REVOKE CREATE ON {object} FROM {detail}{more}.",
        """
        select
            'schema ' || quote_ident(nspname), rolname,
            case when has_schema_privilege('public', schemas.oid, 'CREATE')
                then ', PUBLIC (another role that creates there needs a grant of its own)'
                else ''
            end
        from schemas, runtime
        where not rolsuper and has_schema_privilege(runtime.oid, schemas.oid, 'CREATE')
            and (%(through_public)s or not has_schema_privilege('public', schemas.oid, 'CREATE'))
        union all
        select
            'database ' || quote_ident(current_database()), rolname,
            case when has_database_privilege('public', current_database(), 'CREATE')
                then ', PUBLIC (another role that creates there needs a grant of its own)'
                else ''
            end
        from runtime
        where not rolsuper and has_database_privilege(runtime.oid, current_database(), 'CREATE')
            and (
                %(through_public)s
                or not has_database_privilege('public', current_database(), 'CREATE')
            )
        """,
    ),
)


def excess_rights(
    connection: psycopg.Connection[Any], roles: Collection[str], *, through_public: bool = False
) -> list[str]:
    """Returns a sentence for each kind of right that one of `roles` has and no runtime role needs.

    A right that every role of the server has counts only `through_public`; the lint reports it.
    """
    parameters = {
        "runtime": list(roles),
        "through_public": through_public,
        "schema": SCHEMA,
        "stores": STORE_MARK,
    }
    found = []
    for check in ROLE_CHECKS:
        objects: dict[tuple[str, ...], list[str]] = {}  # by what the sentence says of them
        query = sql.SQL(ROLE_TABLES) + sql.SQL(check.query)
        with connection.cursor(row_factory=tuple_row) as cursor:
            for row in cursor.execute(query, parameters):
                name, *rest = (printable(str(value)) for value in row)
                objects.setdefault(tuple(rest), []).append(name)
        for (detail, *more), names in objects.items():
            listed = ", ".join(names[:SHOWN])
            if len(names) > SHOWN:
                listed += f" and {len(names) - SHOWN} more objects"
            found.append(check.message.format(object=listed, detail=detail, more="".join(more)))
    return found


def refuse_excess_rights(
    connection: psycopg.Connection[Any], role: str, *, through_public: bool = False
) -> None:
    """Raises `ExcessRights`, with a sentence for each kind of right too many that `role` has."""
    found = excess_rights(connection, [role], through_public=through_public)
    if found:
        raise ExcessRights(" ".join(found))

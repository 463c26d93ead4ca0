"""Row-level security for tenant-owned tables: functions for migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, get_args

from alembic import op
from sqlalchemy import text

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.tenant_id_types import TenantIdType
from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.roles import TENANT_ROLE

# On a connection whose earlier transaction had a tenant, the setting reads as the empty string.
# Without a (select ...) around it, the planner evaluates it once beside the ORM's own predicate and
# uses the index as for an ordinary where clause; with a subquery it does not.
_SETTING: Final = "current_setting('app.tenant_id', true)"
CURRENT_TENANT: Final = f"nullif({_SETTING}, '')"

ISOLATION_POLICY: Final = "tenant_isolation"
ACCESS_POLICY: Final = "tenant_access"
REPAIR_POLICY: Final = "owner_repair"  # exists only while a migration repairs rows

# The type of a column, below its domains, and whether it is a table's.
_COLUMN: Final = """
    with recursive types as (
        select pg_type.oid, typbasetype, typname, relkind::text
        from pg_class
        join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        join pg_type on pg_type.oid = atttypid
        where pg_class.oid = to_regclass(:name) and attname = :column
        union all
        select below.oid, below.typbasetype, below.typname, relkind
        from types
        join pg_type as below on below.oid = types.typbasetype
    )
    select format_type(oid, null), typname::text, relkind from types where typbasetype = 0
"""
_POLICIES: Final = f"""
    select count(*)
    from pg_policy
    where polrelid = to_regclass(:name)
        and polname in ('{ISOLATION_POLICY}', '{ACCESS_POLICY}')
        and polroles = array(select oid from pg_roles where rolname = :role)
"""  # noqa: S608
_KINDS: Final[dict[TenantIdType, tuple[str, ...]]] = {
    "text": ("text", "varchar"),
    "uuid": ("uuid",),
    "bigint": ("int8", "int4", "int2"),
}
COLUMN_TYPES: Final = {name: kind for kind, names in _KINDS.items() for name in names}
"""The types of columns that can hold tenant ids, as `pg_type` names them, and those of ids."""


def current_tenant_as(type: TenantIdType) -> str:
    """Returns SQL for the current tenant's id as a value of `type`.

    It is null without a tenant, and where the setting is not the text that PostgreSQL writes for
    that value: `07` and `7` are two tenants everywhere else.

    Raises:
        ConfigurationError: the type is none of the three.
    """
    if type not in get_args(TenantIdType):
        raise ConfigurationError(
            f"a tenant's column has the type text, uuid or bigint, not {type!r}. Use one of these."
        )
    if type == "text":
        return CURRENT_TENANT
    # One expression without columns: an index condition evaluates it once, and a second condition
    # beside the comparison would be a filter on each row.
    return f"case when {_SETTING} = {CURRENT_TENANT}::{type}::text then {_SETTING}::{type} end"


@spelled
def protect(
    table: str,
    *,
    column: str = "tenant_id",
    type: TenantIdType = "text",
    schema: str | None = None,
) -> None:
    """Limits the tenant role to the current tenant's rows of `table`; call it in a migration.

    It runs the `protect_statements` for the tenant role of the installation. Safe to repeat: then
    it replaces the policies, such as those of an earlier release, and leaves the rights alone.

    Args:
        table: the table's name.
        column: the column that holds the tenant's id.
        type: the type of the ids: `text` (also for a column of type varchar), `uuid` or `bigint`
            (also for integer and smallint). The table's class extends `TenantOwned`, or
            `tenant_owned(column=column, type=type)`.
        schema: the table's schema; None: the first of the search_path that has it.

    Raises:
        ConfigurationError: the type is none of the three, there is no such table or column, or the
            column's type is another one.
    """
    role = current_installation().roles.tenant
    statements = protect_statements(table, column=column, type=type, role=role, schema=schema)
    if not op.get_context().as_sql:
        _refuse_column(table, column, type, schema)
        if _is_protected(table, schema, role):
            statements = statements[:-1]  # the application may have revoked a right since
    for statement in statements:
        op.execute(statement)


@spelled
def protect_statements(
    table: str,
    *,
    column: str = "tenant_id",
    type: TenantIdType = "text",
    role: str = TENANT_ROLE,
    schema: str | None = None,
) -> list[str]:
    """Returns the SQL that limits `role` to the current tenant's rows of `table`.

    For migrations without Alembic; run it in one transaction. It can be repeated: it replaces the
    policies, and grants the four rights again, so repeat a REVOKE of your own after it. Two
    policies have the same rules: the permissive one gives access, and the restrictive one still
    applies if somebody adds a wider permissive policy, since permissive policies are joined by OR.
    FORCE applies row-level security to the table's owner too, who therefore sees no rows.

    Args:
        table: a name without quotes, as the catalogue has it.
        column: the column that holds the tenant's id.
        type: the type of the ids: `text`, `uuid` or `bigint`.
        role: the role that reads and writes one tenant's rows at a time.
        schema: the table's schema, without quotes; None: the first of the search_path that has it.

    Raises:
        ConfigurationError: the type is none of the three, or `table` has a dot and no schema is
            given.
    """
    if schema is None and "." in table:
        first, _, rest = table.partition(".")
        raise ConfigurationError(
            f"{table!r} would be one name with a dot. Name the schema apart: {rest!r}, "
            f"schema={first!r}."
        )
    name = _qualified(table, schema)
    rule, check = _rule(quoted(column), type), _check(quoted(column), type)
    role = quoted(role)
    policies = ((ISOLATION_POLICY, "restrictive"), (ACCESS_POLICY, "permissive"))
    return [
        f"alter table {name} enable row level security",
        f"alter table {name} force row level security",
        *(
            statement
            for policy, kind in policies
            for statement in (
                f"drop policy if exists {policy} on {name}",
                f"create policy {policy} on {name} as {kind} for all to {role} "
                f"using ({rule}) with check ({check})",
            )
        ),
        f"grant select, insert, update, delete on {name} to {role}",
    ]


@spelled
def protect_sql(
    table: str,
    *,
    column: str = "tenant_id",
    type: TenantIdType = "text",
    role: str = TENANT_ROLE,
    schema: str | None = None,
) -> str:
    """Returns the statements of `protect_statements` as one SQL text, as for Django's `RunSQL`."""
    statements = protect_statements(table, column=column, type=type, role=role, schema=schema)
    return ";\n".join(statements) + ";"


def _qualified(table: str, schema: str | None) -> str:
    return quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"


def _rule(column: str, type: TenantIdType) -> str:
    # The setting is cast and not the column, so that the column's index serves.
    return f"{column} = {current_tenant_as(type)}"


def _is_protected(table: str, schema: str | None, role: str) -> bool:
    """Whether the table has both policies for `role`, of whatever rule."""
    values = {"name": _qualified(table, schema), "role": role}
    return op.get_bind().execute(text(_POLICIES), values).scalar() == 2


def _check(column: str, type: TenantIdType) -> str:
    # It is evaluated for each row that is written, and serves no index: the text alone will do.
    return _rule(column, type) if type == "text" else f"{column}::text = {_SETTING}"


def _refuse_column(table: str, column: str, type: TenantIdType, schema: str | None) -> None:
    """Raises `ConfigurationError` for a column that cannot hold tenant ids of `type`."""
    name = _qualified(table, schema)
    found = op.get_bind().execute(text(_COLUMN), {"name": name, "column": column}).fetchone()
    if found is None:
        raise ConfigurationError(
            f"there is no table {name} with a column {quoted(column)}. Create it before protect(), "
            "or name another with column= and schema=."
        )
    shown, type_name, kind = found
    if kind not in ("r", "p"):
        raise ConfigurationError(
            f"{name} is not a table, so it can have no policies. Call protect() for the tables "
            "below it; a view needs security_invoker."
        )
    fitting = COLUMN_TYPES.get(type_name)
    if fitting is None:
        raise ConfigurationError(
            f"the column {quoted(column)} of {name} has the type {shown}, which can hold no tenant "
            "ids. Make it text, uuid or bigint."
        )
    if fitting != type:
        raise ConfigurationError(
            f"the column {quoted(column)} of {name} has the type {shown}, and protect() was told "
            f'{type}. Call it with type="{fitting}".'
        )


@contextmanager
def repairing(*tables: str) -> Iterator[None]:
    """Lets a migration read and change all rows of `tables`, which FORCE hides from the owner.

    The block is part of the migration's transaction: a migration that fails has changed no row, and
    the locks on the tables are held until it ends. So a table with very many rows to change is
    repaired by a job before the migration that relies on it.
    """
    names = [op.get_bind().dialect.identifier_preparer.quote(table) for table in tables]
    for name in names:
        op.execute(f"drop policy if exists {REPAIR_POLICY} on {name}")
        op.execute(f"""
            create policy {REPAIR_POLICY} on {name}
                as permissive for all to current_user using (true) with check (true)
        """)
    yield
    for name in names:
        op.execute(f"drop policy {REPAIR_POLICY} on {name}")

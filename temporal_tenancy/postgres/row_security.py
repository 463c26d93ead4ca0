"""Row-level security for tenant-owned tables: functions for migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, get_args

import psycopg
from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.tenant_id_types import TenantIdType
from temporal_tenancy.postgres.database_errors import RowsHidden
from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.roles import TENANT_ROLE

# On a connection whose earlier transaction had a tenant, the setting reads as the empty string.
# Without a (select ...) around it, the planner evaluates it once beside the ORM's own predicate and
# uses the index as for an ordinary where clause; with a subquery it does not.
_SETTING: Final = "current_setting('app.tenant_id', true)"
CURRENT_TENANT: Final = f"nullif({_SETTING}, '')"

ISOLATION_POLICY: Final = "tenant_isolation"
ACCESS_POLICY: Final = "tenant_access"
HIDDEN_ROWS_CHECK: Final = "check_enable_rls"  # the server function that refuses to hide rows

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
_FORCED: Final = "select relforcerowsecurity from pg_class where oid = to_regclass(:name)"
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
def repairing(*tables: str, schema: str | None = None) -> Iterator[None]:
    """Lets a migration read and change all rows of `tables`, which FORCE hides from the owner.

    Without it such a migration ends with `RowsHidden`. So does one that adds a foreign key between
    protected tables, of whose rows PostgreSQL would check none. The block is part of the
    migration's transaction: one that fails has changed no row, and the locks on the tables are held
    until it ends. So a table with very many rows to change is repaired by a job before the
    migration that relies on it. Deferred constraints are checked at the end of the block.

    Args:
        tables: the names of all tables that the block reads or changes.
        schema: the tables' schema; None: the first of the search_path that has each.
    """
    names = [_qualified(table, schema) for table in tables]
    if not op.get_context().as_sql:
        names = [name for name in names if op.get_bind().scalar(text(_FORCED), {"name": name})]
    for name in names:
        op.execute(f"alter table {name} no force row level security")
    yield
    op.execute("set constraints all immediate")  # no table is altered whose checks are pending
    for name in names:
        op.execute(f"alter table {name} force row level security")


@contextmanager
def hidden_rows_refused(connection: Connection) -> Iterator[None]:
    """Makes a statement an error from which FORCE would hide rows: it would pass over them.

    Raises:
        RowsHidden: a statement of the block was one.
    """
    # For the session: a migration may commit.
    connection.exec_driver_sql("set row_security = off")
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, psycopg.Error) or not _hides(cause):
            raise
        raise RowsHidden(
            "a migration reads or changes rows that row-level security hides from the owner, or "
            f"adds a foreign key to them: {cause.diag.message_primary}. "
            'Do it in "with repairing(…):", which names the tables.'
        ) from error
    connection.exec_driver_sql("reset row_security")


def _hides(error: psycopg.Error) -> bool:
    return error.sqlstate == "42501" and error.diag.source_function == HIDDEN_ROWS_CHECK

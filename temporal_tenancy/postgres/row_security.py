"""Row-level security for tenant-owned tables: functions for migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, get_args

from alembic import op

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.tenant_id_types import TenantIdType
from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.roles import TENANT_ROLE

# On a connection whose earlier transaction had a tenant, the setting reads as the empty string.
# Without a (select ...) around it, the planner evaluates it once beside the ORM's own predicate and
# uses the index as for an ordinary where clause; with a subquery it does not.
CURRENT_TENANT: Final = "nullif(current_setting('app.tenant_id', true), '')"

ISOLATION_POLICY: Final = "tenant_isolation"
ACCESS_POLICY: Final = "tenant_access"
REPAIR_POLICY: Final = "owner_repair"  # exists only while a migration repairs rows


def current_tenant_as(type: TenantIdType) -> str:
    """Returns SQL for the current tenant's id as a value of `type`; null without a tenant.

    Raises:
        ConfigurationError: the type is none of the three.
    """
    if type not in get_args(TenantIdType):
        raise ConfigurationError(
            f"a tenant's column has the type text, uuid or bigint, not {type!r}. Use one of these."
        )
    return CURRENT_TENANT if type == "text" else f"{CURRENT_TENANT}::{type}"


def protect(table: str, *, column: str = "tenant_id", type: TenantIdType = "text") -> None:
    """Limits the tenant role to the current tenant's rows of `table`; call it in a migration.

    It runs the `protect_statements` for the tenant role of the installation.

    Args:
        table: the table's name.
        column: the column that holds the tenant's id.
        type: the column's type: `text` (also for varchar), `uuid` or `bigint`. The table's class
            extends `TenantOwned`, or `tenant_owned(column=column, type=type)`.

    Raises:
        ConfigurationError: the type is none of the three.
    """
    role = current_installation().roles.tenant
    for statement in protect_statements(table, column=column, type=type, role=role):
        op.execute(statement)


def protect_statements(
    table: str,
    *,
    column: str = "tenant_id",
    type: TenantIdType = "text",
    role: str = TENANT_ROLE,
) -> list[str]:
    """Returns the SQL that limits `role` to the current tenant's rows of `table`.

    For migrations without Alembic. Two policies have the same rule: the permissive one gives
    access, and the restrictive one still applies if somebody adds a wider permissive policy, since
    permissive policies are joined by OR. FORCE applies row-level security to the table's owner too,
    who therefore sees no rows.

    Args:
        table: a name without quotes, as the catalogue has it.
        column: the column that holds the tenant's id.
        type: the column's type: `text`, `uuid` or `bigint`.
        role: the role that reads and writes one tenant's rows at a time.

    Raises:
        ConfigurationError: the type is none of the three.
    """
    name, column, role = map(quoted, (table, column, role))
    rule = _rule(column, type)
    return [
        f"alter table {name} enable row level security",
        f"alter table {name} force row level security",
        *(
            f"create policy {policy} on {name} as {kind} for all to {role} "
            f"using ({rule}) with check ({rule})"
            for policy, kind in ((ISOLATION_POLICY, "restrictive"), (ACCESS_POLICY, "permissive"))
        ),
        f"grant select, insert, update, delete on {name} to {role}",
    ]


def protect_sql(
    table: str,
    *,
    column: str = "tenant_id",
    type: TenantIdType = "text",
    role: str = TENANT_ROLE,
) -> str:
    """Returns the statements of `protect_statements` as one SQL text, as for Django's `RunSQL`."""
    return ";\n".join(protect_statements(table, column=column, type=type, role=role)) + ";"


def _rule(column: str, type: TenantIdType) -> str:
    # The setting is cast and not the column, so that the column's index serves.
    return f"{column} = {current_tenant_as(type)}"


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

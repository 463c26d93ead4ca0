"""Row-level security for tenant-owned tables: functions for migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from alembic import op

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.roles import TENANT_ROLE

# On a connection whose earlier transaction had a tenant, the setting reads as the empty string.
# Without a (select ...) around it, the planner evaluates it once beside the ORM's own predicate and
# uses the index as for an ordinary where clause; with a subquery it does not.
CURRENT_TENANT: Final = "nullif(current_setting('app.tenant_id', true), '')"

ISOLATION_POLICY: Final = "tenant_isolation"
ACCESS_POLICY: Final = "tenant_access"
COLUMN_TYPES: Final = ("text", "uuid", "bigint")
REPAIR_POLICY: Final = "owner_repair"  # exists only while a migration repairs rows


def protect_statements(
    table: str, *, column: str = "tenant_id", type: str = "text", role: str = TENANT_ROLE
) -> list[str]:
    """Returns the SQL that limits `role` to the current tenant's rows of `table`.

    For migrations without Alembic. Two policies have the same rule: the permissive one gives
    access, and the restrictive one still applies if somebody adds a wider permissive policy, since
    permissive policies are joined by OR. FORCE applies row-level security to the table's owner too,
    who therefore sees no rows.

    Args:
        table: a name without quotes, as the catalogue has it.
        column: the column with the tenant's id.
        type: the column's type: `text`, `uuid` or `bigint`.
        role: the role that reads and writes one tenant's rows at a time.

    Raises:
        ConfigurationError: the column's type is none of these.
    """
    if type not in COLUMN_TYPES:
        raise ConfigurationError(
            f"a column of tenants' ids cannot have the type {type!r}. Use one of "
            f"{', '.join(COLUMN_TYPES)}."
        )
    name, column, role = map(_quoted, (table, column, role))
    rule = f"{column} = {CURRENT_TENANT}" + ("" if type == "text" else f"::{type}")
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
    table: str, *, column: str = "tenant_id", type: str = "text", role: str = TENANT_ROLE
) -> str:
    """Returns the statements of `protect_statements` as one SQL text, as for Django's `RunSQL`."""
    return ";\n".join(protect_statements(table, column=column, type=type, role=role)) + ";"


def protect(table: str) -> None:
    """Limits the tenant role to the current tenant's rows of `table`; call it in a migration.

    It runs the statements of `protect_statements()` with Alembic.
    """
    for statement in protect_statements(table):
        op.execute(statement)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def repairing(*tables: str) -> Iterator[None]:
    """Lets a migration read and change all rows of `tables`, which FORCE hides from the owner.

    Entering the block commits the work before it, and each statement in the block commits
    separately, so that none holds locks after it ends. A migration that fails inside the block runs
    again from its beginning, so all its statements must be safe to repeat.
    """
    names = [op.get_bind().dialect.identifier_preparer.quote(table) for table in tables]
    for name in names:
        op.execute(f"drop policy if exists {REPAIR_POLICY} on {name}")
        op.execute(f"""
            create policy {REPAIR_POLICY} on {name}
                as permissive for all to current_user using (true) with check (true)
        """)
    with op.get_context().autocommit_block():
        yield
    for name in names:
        op.execute(f"drop policy {REPAIR_POLICY} on {name}")

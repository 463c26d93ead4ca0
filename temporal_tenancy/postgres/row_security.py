"""Row-level security for tenant-owned tables: what a migration calls for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from alembic import op

from temporal_tenancy.postgres.roles import TENANT_ROLE

# The empty string is what a connection reads once an earlier transaction has had a tenant. Not
# wrapped in a (select ...): beside the ORM's own predicate the planner then evaluates it once and
# reads the index as for a plain where clause, which it does not do for a subquery.
CURRENT_TENANT: Final = "nullif(current_setting('app.tenant_id', true), '')"

ISOLATION_POLICY: Final = "tenant_isolation"
ACCESS_POLICY: Final = "tenant_access"
REPAIR_POLICY: Final = "owner_repair"  # there only while a migration repairs rows


def protect(table: str) -> None:
    """Makes the tenant role see and write its current tenant's rows of `table`, and no others.

    Two policies with one rule: the permissive one gives access, and the restrictive one keeps the
    rule if somebody adds a wider permissive one, since those are joined by OR. FORCE holds the
    table's owner to it too, who therefore sees no rows at all.
    """
    rule = f"tenant_id = {CURRENT_TENANT}"
    name = op.get_bind().dialect.identifier_preparer.quote(table)
    op.execute(f"alter table {name} enable row level security")
    op.execute(f"alter table {name} force row level security")
    for policy, kind in ((ISOLATION_POLICY, "restrictive"), (ACCESS_POLICY, "permissive")):
        op.execute(f"""
            create policy {policy} on {name}
                as {kind} for all to {TENANT_ROLE}
                using ({rule})
                with check ({rule})
        """)
    op.execute(f"grant select, insert, update, delete on {name} to {TENANT_ROLE}")


@contextmanager
def repairing(*tables: str) -> Iterator[None]:
    """Lets a migration see and change all rows of `tables`, which FORCE hides from the owner.

    What was done before the block is committed, and each statement in it commits by itself: none
    keeps the running system waiting for longer than it takes. A migration that breaks off in the
    block runs again from its beginning, so whatever comes before must be possible twice.
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

"""Lets tenant ids have letters of either case, but no two that differ only by case."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Widens the check of `tenants.id`, and makes the ids unique without regard to case.

    Every id of today fits both: the narrower check has accepted only lower case.
    """
    op.execute("""
        alter table tenants
            drop constraint if exists ck_tenants_id,
            add constraint ck_tenants_id check (
                id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$' and lower(id) <> 'platform'
            )
    """)
    op.execute("create unique index if not exists uq_tenants_lower_id on tenants (lower(id))")

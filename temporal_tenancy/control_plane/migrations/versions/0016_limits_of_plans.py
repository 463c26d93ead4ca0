"""What a plan says of its tenants' sessions: their share of the connections, and their limits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_LIMITS = ("statement_timeout", "lock_timeout", "idle_timeout", "transaction_timeout")


def upgrade() -> None:
    """Adds columns that the previous release neither reads nor writes; without values in them, its
    processes and this one's do the same."""
    op.add_column("plans", sa.Column("pool_share", sa.Float))
    op.create_check_constraint(
        op.f("ck_plans_pool_share"), "plans", "pool_share > 0 and pool_share <= 1"
    )
    for limit in _LIMITS:
        op.add_column("plans", sa.Column(limit, sa.Interval))
        op.create_check_constraint(
            op.f(f"ck_plans_{limit}"), "plans", f"{limit} between '1 ms' and '24 days'"
        )

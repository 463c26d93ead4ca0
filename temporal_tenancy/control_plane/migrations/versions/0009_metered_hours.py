"""What each tenant's jobs used, by the hour; and the ledger, which relays count for the metrics."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0009"
down_revision = "0008"


def _sum(name: str, kind: type[sa.Double[float] | sa.BigInteger]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    """Creates the table, and lets the relay's role read ticks and the ledger."""
    op.create_table(
        "metered_hours",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        _sum("worker_seconds", sa.Double),
        _sum("database_seconds", sa.Double),
        _sum("attempts", sa.BigInteger),
        _sum("workflows", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant_id", "job", "hour", name="pk_metered_hours"),
    )
    op.create_index("ix_metered_hours_hour", "metered_hours", ["hour"])
    _, platform, relay = map(quoted, current_installation().roles)
    op.execute(f"grant select, insert, update, delete on metered_hours to {platform}")
    op.execute(f"grant select on ticks, ledger to {relay}")

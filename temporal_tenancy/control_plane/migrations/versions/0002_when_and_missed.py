"""Due times and owners of ledger rows, missed ticks, ends of trials, and server checks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds columns and a table; existing ledger rows become due when they were planned."""
    op.add_column("ledger", sa.Column("planned_by", sa.Text))
    op.add_column(
        "ledger",
        sa.Column(
            "due_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.execute("update ledger set due_at = planned_at")
    columns = ["job", "tick", "due_at", "tenant_id"]
    op.create_index("ix_ledger_job_tick_due_at_tenant_id", "ledger", columns)
    op.alter_column("ticks", "workflow_id", nullable=True)
    op.alter_column("ticks", "run_id", nullable=True)
    op.add_column("ticks", sa.Column("reason", sa.Text))
    op.add_column("ticks", sa.Column("planned_at", sa.DateTime(timezone=True)))
    op.execute("update ticks set planned_at = started_at where state = 'ended'")
    op.drop_constraint(op.f("ck_ticks_state"), "ticks")
    op.create_check_constraint(
        op.f("ck_ticks_state"),
        "ticks",
        "state in ('running', 'ended', 'failed', 'cancelled', 'missed')",
    )
    op.create_index("ix_ticks_started_at", "ticks", ["started_at"])
    op.add_column("tenants", sa.Column("trial_ends_at", sa.DateTime(timezone=True)))
    op.create_index("ix_tenants_time_zone_id", "tenants", ["time_zone", "id"])
    op.create_table(
        "server_checks",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("holds", sa.Boolean, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column(
            "checked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("name", name="pk_server_checks"),
    )
    platform = quoted(current_installation().roles.platform)
    op.execute(f"grant select, insert, update, delete on server_checks to {platform}")

"""Tenants, plans, ticks and the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.uuids import make_uuidv7

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the four tables, three initial plans, and the platform role's grants."""
    make_uuidv7()
    plans = op.create_table(
        "plans",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("fairness_weight", sa.Float, nullable=False, server_default=sa.text("1")),
        sa.Column("concurrency_cap", sa.Integer),
        sa.Column("rate_limits", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("features", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("retention_days", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.CheckConstraint(
            "fairness_weight between 0.001 and 1000", name=op.f("ck_plans_fairness_weight")
        ),
        sa.CheckConstraint("concurrency_cap >= 1", name=op.f("ck_plans_concurrency_cap")),
        sa.CheckConstraint("retention_days >= 1", name=op.f("ck_plans_retention_days")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column(
            "status_since",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        sa.Column("status_reason", sa.Text),
        sa.Column("resumes_as", sa.Text),
        sa.Column("plan_id", sa.Text, nullable=False),
        sa.Column("features", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("time_zone", sa.Text, nullable=False, server_default=sa.text("'UTC'")),
        sa.Column("settings", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_tenants_plan_id_plans"),
        sa.CheckConstraint(
            "id ~ '^[a-z0-9][a-z0-9_-]{0,62}$' and id <> 'platform'", name=op.f("ck_tenants_id")
        ),
        sa.CheckConstraint(
            "status in ('trial', 'active', 'suspended', 'offboarding', 'deleted')",
            name=op.f("ck_tenants_status"),
        ),
    )
    op.create_table(
        "ticks",
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("tick", sa.Text, nullable=False),
        sa.Column("nominal_time", sa.DateTime(timezone=True)),
        sa.Column("workflow_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job", "tick", name="pk_ticks"),
        sa.CheckConstraint(
            "state in ('running', 'ended', 'failed', 'cancelled')", name=op.f("ck_ticks_state")
        ),
    )
    op.create_table(
        "ledger",
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("tick", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("error_type", sa.Text),
        sa.Column("workflow_id", sa.Text),
        sa.Column("run_id", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column(
            "planned_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("job", "tick", "tenant_id", name="pk_ledger"),
        sa.CheckConstraint(
            "state in ('planned', 'running', 'succeeded', 'failed', 'skipped', 'not_started')",
            name=op.f("ck_ledger_state"),
        ),
    )
    op.create_index("ix_ledger_job_tick_state", "ledger", ["job", "tick", "state"])
    op.create_index("ix_ledger_tenant_id_job", "ledger", ["tenant_id", "job"])
    op.bulk_insert(
        plans,
        [
            {"id": "free", "fairness_weight": 1, "features": [], "retention_days": 90},
            {
                "id": "standard",
                "fairness_weight": 2,
                "features": ["analytics", "reports"],
                "retention_days": 730,
            },
            {
                "id": "enterprise",
                "fairness_weight": 5,
                "features": ["analytics", "exports", "imports", "reports"],
                "retention_days": None,
            },
        ],
    )
    # No delete: a deleted tenant's row stays, so that its id is never reused.
    platform = quoted(current_installation().roles.platform)
    op.execute(f"grant select, insert, update on plans, tenants to {platform}")
    op.execute(f"grant select, insert, update, delete on ticks, ledger to {platform}")

"""Releases of worker versions to some tenants first, and the version of a ledger row's run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds a table and a column, which the previous release neither reads nor writes."""
    op.execute("alter table ledger add column if not exists build_id text")
    op.create_table(
        "releases",
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("build_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tenants", sa.ARRAY(sa.Text)),
        sa.Column("share", sa.Float),
        sa.Column("max_failures", sa.Float, nullable=False),
        sa.Column("max_slowdown", sa.Float, nullable=False),
        sa.Column("min_runs", sa.Integer, nullable=False),
        sa.Column(
            "began_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("deployment", "build_id", name="pk_releases"),
        sa.CheckConstraint(
            "state in ('ramping', 'halted', 'promoted', 'rolled_back')",
            name=op.f("ck_releases_state"),
        ),
        sa.CheckConstraint("(tenants is null) <> (share is null)", name=op.f("ck_releases_cohort")),
        sa.CheckConstraint("share > 0 and share <= 1", name=op.f("ck_releases_share")),
        sa.CheckConstraint(
            "max_failures > 0 and max_slowdown > 1 and min_runs >= 1",
            name=op.f("ck_releases_bounds"),
        ),
    )
    roles = current_installation().roles
    op.execute(f"grant select, insert, update on releases to {quoted(roles.platform)}")
    op.execute(f"grant select on releases to {quoted(roles.relay)}")

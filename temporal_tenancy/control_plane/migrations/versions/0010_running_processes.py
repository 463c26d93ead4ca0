"""The processes that run, each with the configuration and the migrations that it knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Creates a table that the previous release neither reads nor writes."""
    op.create_table(
        "running_processes",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("serves", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("configuration", sa.Text, nullable=False),
        sa.Column("revisions", JSONB, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("kind", "identity", name="pk_running_processes"),
    )
    roles = current_installation().roles
    for role in (roles.platform, roles.relay):
        op.execute(f"grant select, insert, update, delete on running_processes to {quoted(role)}")

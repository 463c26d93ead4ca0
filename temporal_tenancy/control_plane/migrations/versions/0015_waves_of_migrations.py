"""How far each store has been migrated, and what the tables of a migrated one look like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Creates a table and columns that the previous release neither reads nor writes."""
    op.add_column("stores", sa.Column("versions", JSONB))
    op.add_column("stores", sa.Column("versions_at", sa.DateTime(timezone=True)))
    op.add_column("stores", sa.Column("target", sa.Text))
    op.add_column("stores", sa.Column("wave", sa.Integer))
    op.add_column("stores", sa.Column("failure", sa.Text))
    op.create_check_constraint(
        op.f("ck_stores_wave"), "stores", "wave >= 0 and (wave is null) = (target is null)"
    )
    op.create_table(
        "declared_schemas",
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("objects", ARRAY(sa.Text), nullable=False),
        sa.Column(
            "made_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("target", name="pk_declared_schemas"),
    )
    platform = quoted(current_installation().roles.platform)
    op.execute(f"grant select on declared_schemas to {platform}")

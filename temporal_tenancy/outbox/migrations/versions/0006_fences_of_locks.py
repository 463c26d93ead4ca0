"""The fences of tenants' locks, which a transaction under a lock checks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.row_security import protect

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the table under row-level security; the previous release does not know it."""
    op.create_table(
        "lock_fences",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column(
            "taken_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_lock_fences"),
        sa.CheckConstraint("char_length(name) <= 1000", name=op.f("ck_lock_fences_sizes")),
        sa.CheckConstraint(
            "taken_at between '0002-01-01 00:00:00+00' and '9999-01-01 00:00:00+00'",
            name=op.f("ck_lock_fences_times"),
        ),
    )
    op.create_index("ix_lock_fences_tenant_id_taken_at", "lock_fences", ["tenant_id", "taken_at"])
    protect("lock_fences")
    # Its name and its tenant are a row's for good.
    role = quoted(current_installation().roles.tenant)
    op.execute(f"revoke update on lock_fences from {role}")
    op.execute(f"revoke insert on lock_fences from {role}")
    op.execute(f"""
        grant insert (tenant_id, name, token, taken_at), update (token, taken_at)
            on lock_fences to {role}
    """)

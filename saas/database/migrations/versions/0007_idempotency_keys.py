"""Idempotency keys of requests, with their answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy import protect

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Creates the table, with row-level security."""
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("answer", sa.JSON),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key", name="pk_idempotency_keys"),
    )
    op.create_index(
        "ix_idempotency_keys_tenant_id_expires_at", "idempotency_keys", ["tenant_id", "expires_at"]
    )
    protect("idempotency_keys")

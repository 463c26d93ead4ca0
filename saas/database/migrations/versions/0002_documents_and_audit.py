"""Subscriptions, documents, and the audit log with its daily counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from temporal_tenancy import protect
from temporal_tenancy.postgres import TENANT_ROLE, new_uuid

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the four tables, each with row-level security; the audit log is append-only."""
    op.create_table(
        "subscriptions",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_subscriptions"),
    )
    op.create_table(
        "documents",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("content", JSONB, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "key", name="pk_documents"),
    )
    op.create_index("ix_documents_tenant_id_expires_at", "documents", ["tenant_id", "expires_at"])
    op.create_table(
        "audit_entries",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False, server_default=new_uuid()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_audit_entries"),
    )
    op.create_index("ix_audit_entries_tenant_id_at", "audit_entries", ["tenant_id", "at"])
    op.create_index("ix_audit_entries_tenant_id_actor", "audit_entries", ["tenant_id", "actor"])
    op.create_table(
        "audit_daily",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column(
            "computed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("tenant_id", "day", "action", "actor", name="pk_audit_daily"),
    )
    for table in ("subscriptions", "documents", "audit_entries", "audit_daily"):
        protect(table)
    op.execute(f"revoke update, delete on audit_entries from {TENANT_ROLE}")

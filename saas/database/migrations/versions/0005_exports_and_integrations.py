"""Exports, reports, the search index, and integrations with other systems."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

from temporal_tenancy import protect
from temporal_tenancy.postgres import new_uuid

revision = "0005"
down_revision = "0004"


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.Text, nullable=False)


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, nullable=False, server_default=new_uuid())


def _status(default: str) -> sa.Column[str]:
    return sa.Column("status", sa.Text, nullable=False, server_default=sa.text(f"'{default}'"))


def _now(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def upgrade() -> None:
    """Creates the tables, each with row-level security."""
    op.create_table(
        "exports",
        _tenant(),
        _id(),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        _status("requested"),
        sa.Column("path", sa.Text),
        sa.Column("rows", sa.BigInteger),
        sa.Column("bytes", sa.BigInteger),
        _now("requested_at"),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_exports"),
        sa.CheckConstraint(
            "dataset in ('contacts', 'invoices', 'usage_events')", name=op.f("ck_exports_dataset")
        ),
        sa.CheckConstraint("format in ('csv', 'parquet')", name=op.f("ck_exports_format")),
        sa.CheckConstraint(
            "status in ('requested', 'completed', 'failed')", name=op.f("ck_exports_status")
        ),
    )
    op.create_index("ix_exports_tenant_id_expires_at", "exports", ["tenant_id", "expires_at"])
    op.create_table(
        "requested_reports",
        _tenant(),
        _id(),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        _status("requested"),
        _now("requested_at"),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_requested_reports"),
        sa.CheckConstraint(
            "status in ('requested', 'completed', 'failed')",
            name=op.f("ck_requested_reports_status"),
        ),
    )
    op.create_table(
        "integrations",
        _tenant(),
        _id(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("cursor", sa.Text),
        _status("never"),
        sa.Column("last_synced_at", sa.DateTime(timezone=True)),
        _now("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_integrations"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_integrations_tenant_id_name"),
        sa.CheckConstraint(
            "name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name=op.f("ck_integrations_name")
        ),
        sa.CheckConstraint(
            "status in ('never', 'syncing', 'synced', 'failed')",
            name=op.f("ck_integrations_status"),
        ),
    )
    op.create_table(
        "external_records",
        _tenant(),
        sa.Column("integration_id", sa.Uuid, nullable=False),
        sa.Column("external_id", sa.Text, nullable=False),
        sa.Column("data", JSONB, nullable=False),
        _now("synced_at"),
        sa.PrimaryKeyConstraint(
            "tenant_id", "integration_id", "external_id", name="pk_external_records"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "integration_id"],
            ["integrations.tenant_id", "integrations.id"],
            name="fk_external_records_tenant_id_integration_id_integrations",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "search_documents",
        _tenant(),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("ref", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column(
            "words",
            TSVECTOR,
            sa.Computed(
                "setweight(to_tsvector('simple', title), 'A') || "
                "setweight(to_tsvector('simple', body), 'B')",
                persisted=True,
            ),
            nullable=False,
        ),
        _now("indexed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "ref", name="pk_search_documents"),
    )
    for table in (
        "exports",
        "requested_reports",
        "integrations",
        "external_records",
        "search_documents",
    ):
        protect(table)

"""Contacts, their imports, and rejected rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from temporal_tenancy import protect
from temporal_tenancy.postgres import new_uuid

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the tables, each with row-level security."""
    op.create_table(
        "contacts",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False, server_default=new_uuid()),
        sa.Column("email", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("name", "phone", "company", "country")),
        sa.Column("attributes", JSONB, nullable=False, server_default=sa.text("'{}'")),
        *(
            sa.Column(
                name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
            )
            for name in ("created_at", "updated_at")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_contacts"),
        sa.UniqueConstraint("tenant_id", "email", name="uq_contacts_tenant_id_email"),
    )
    op.create_table(
        "imports",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False, server_default=new_uuid()),
        sa.Column("file_name", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("encoding", sa.Text, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'processing'")),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("delimiter", sa.Text),
        sa.Column("columns", JSONB),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            for name in ("imported", "updated", "rejected")
        ),
        sa.Column("error", sa.Text),
        sa.Column("error_file", sa.Text),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_imports"),
        sa.CheckConstraint(
            "status in ('processing', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_imports_status"),
        ),
    )
    op.create_index("ix_imports_tenant_id_created_at", "imports", ["tenant_id", "created_at"])
    op.create_table(
        "import_rejected_rows",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("import_id", sa.Uuid, nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("cells", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "import_id", "row", name="pk_import_rejected_rows"),
        _of_import("import_rejected_rows"),
    )
    op.create_table(
        "import_seen_emails",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("import_id", sa.Uuid, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "import_id", "email", name="pk_import_seen_emails"),
        _of_import("import_seen_emails"),
    )
    for table in ("contacts", "imports", "import_rejected_rows", "import_seen_emails"):
        protect(table)


def _of_import(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "import_id"],
        ["imports.tenant_id", "imports.id"],
        name=f"fk_{table}_tenant_id_import_id_imports",
        ondelete="CASCADE",
    )

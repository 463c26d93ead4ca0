"""Usage by event and by day, and invoices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy import protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the four tables, each with row-level security."""
    op.create_table(
        "usage_events",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("time_hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("carrier", sa.Text, nullable=False),
        sa.Column("flight", sa.Integer, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("tail_number", sa.Text),
        sa.Column("distance", sa.Integer, nullable=False),
        sa.Column("air_time", sa.Integer),
        sa.Column("departure_delay", sa.Integer),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "time_hour", "carrier", "flight", name="pk_usage_events"
        ),
    )
    op.create_table(
        "daily_usage",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sa.Column("distance", sa.BigInteger, nullable=False),
        sa.Column("air_time", sa.BigInteger, nullable=False),
        sa.Column(
            "computed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("tenant_id", "day", name="pk_daily_usage"),
    )
    op.create_table(
        "invoices",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("total_cents", sa.BigInteger, nullable=False),
        sa.Column("usage_events", sa.Integer, nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "issued_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("tenant_id", "period", name="pk_invoices"),
        sa.CheckConstraint(
            "period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_invoices_period")
        ),
    )
    op.create_table(
        "invoice_lines",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("rate", sa.Text, nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("unit_price_micros", sa.BigInteger, nullable=False),
        sa.Column("amount_cents", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "period", "rate", name="pk_invoice_lines"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "period"],
            ["invoices.tenant_id", "invoices.period"],
            name="fk_invoice_lines_tenant_id_period_invoices",
            ondelete="CASCADE",
        ),
    )
    for table in ("usage_events", "daily_usage", "invoices", "invoice_lines"):
        protect(table)

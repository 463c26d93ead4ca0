"""Payment events, outgoing mail and notifications."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

from temporal_tenancy import protect
from temporal_tenancy.postgres import new_uuid

revision = "0004"
down_revision = "0003"


def _time(name: str, *, default: str | None = None, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        nullable=nullable,
        server_default=None if default is None else sa.text(default),
    )


def upgrade() -> None:
    """Creates the tables, each with row-level security, and adds the status of a subscription."""
    op.add_column(
        "subscriptions",
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'active'")),
    )
    op.add_column("subscriptions", _time("current_period_end", nullable=True))
    op.add_column("subscriptions", _time("changed_at", default="now()"))
    op.add_column("subscriptions", sa.Column("changed_by", sa.Text))
    op.create_check_constraint(
        op.f("ck_subscriptions_status"),
        "subscriptions",
        "status in ('active', 'past_due', 'cancelled')",
    )
    op.create_table(
        "payment_events",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        _time("sent_at"),
        _time("received_at", default="now()"),
        sa.Column("outcome", sa.Text),
        sa.PrimaryKeyConstraint("tenant_id", "event_id", name="pk_payment_events"),
        sa.CheckConstraint(
            "outcome in ('applied', 'superseded', 'ignored')",
            name=op.f("ck_payment_events_outcome"),
        ),
    )
    op.create_table(
        "outgoing_mail",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.Text),
        _time("created_at", default="now()"),
        _time("sent_at", nullable=True),
        sa.Column("answer", sa.Text),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_outgoing_mail"),
    )
    op.create_table(
        "notifications",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False, server_default=new_uuid()),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        _time("created_at", default="now()"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_notifications"),
    )
    for table in ("payment_events", "outgoing_mail", "notifications"):
        protect(table)

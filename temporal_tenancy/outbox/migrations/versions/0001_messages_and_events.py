"""Creates the outbox of all tenants, and the events that consumers have processed."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.row_security import protect

revision = "0001"
down_revision = None


def _time(name: str, *, now: bool = False) -> sa.Column[datetime]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not now, server_default=default)


def upgrade() -> None:
    """Creates both tables under row-level security; the relay may update all tenants' messages."""
    op.create_table(
        "outbox_messages",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False, server_default=sa.text("uuidv7()")),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default=sa.text("3")),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'pending'")),
        _time("scheduled_at", now=True),
        _time("dequeued_at"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        _time("last_attempt_at"),
        _time("lease_until"),
        _time("completed_at"),
        sa.Column("workflow_id", sa.Text),
        sa.Column("error_type", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("correlation_id", sa.Text),
        _time("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_outbox_messages"),
        sa.CheckConstraint(
            "status in ('pending', 'processing', 'completed', 'failed', 'dead_letter')",
            name=op.f("ck_outbox_messages_status"),
        ),
        sa.CheckConstraint("priority between 1 and 5", name=op.f("ck_outbox_messages_priority")),
    )
    # Every message is written four times within seconds. Vacuum after a fixed number of rows, not a
    # fraction of a table that was large once. Free space on each page keeps the table from growing.
    op.execute("""
        alter table outbox_messages set (
            fillfactor = 70,
            autovacuum_vacuum_scale_factor = 0,
            autovacuum_vacuum_threshold = 2000,
            autovacuum_vacuum_insert_scale_factor = 0,
            autovacuum_vacuum_insert_threshold = 10000,
            autovacuum_analyze_scale_factor = 0,
            autovacuum_analyze_threshold = 2000,
            autovacuum_vacuum_cost_delay = 0
        )
    """)
    op.create_index(
        "ix_outbox_messages_waiting",
        "outbox_messages",
        ["tenant_id", "priority", "scheduled_at", "id"],
        postgresql_where=sa.text("status in ('pending', 'failed')"),
    )
    op.create_index(
        "uq_outbox_messages_tenant_id_job_key",
        "outbox_messages",
        ["tenant_id", "job", "key"],
        unique=True,
        postgresql_where=sa.text("status <> 'dead_letter'"),
    )
    op.create_index(
        "ix_outbox_messages_lease_until",
        "outbox_messages",
        ["lease_until"],
        postgresql_where=sa.text("status = 'processing'"),
    )
    op.create_index(
        "ix_outbox_messages_completed_at",
        "outbox_messages",
        ["completed_at"],
        postgresql_where=sa.text("status = 'completed'"),
    )
    op.create_table(
        "processed_events",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        _time("processed_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "consumer", "event_id", name="pk_processed_events"),
    )
    op.create_index(
        "ix_processed_events_tenant_id_processed_at",
        "processed_events",
        ["tenant_id", "processed_at"],
    )
    for table in ("outbox_messages", "processed_events"):
        protect(table)
    relay = quoted(current_installation().roles.relay)
    op.execute(f"""
        create policy relay_access on outbox_messages
            as permissive for all to {relay} using (true) with check (true)
    """)
    # The relay changes and deletes messages but never adds one.
    op.execute(f"grant select, update, delete on outbox_messages to {relay}")

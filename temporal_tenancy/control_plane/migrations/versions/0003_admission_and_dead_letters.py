"""Admission, workflows in flight, dead letters, positions and alerts."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.row_security import protect

revision = "0003"
down_revision = "0002"


def _tenant_id() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.Text(collation="C"), nullable=False)


def _time(name: str, *, now: bool = False) -> sa.Column[datetime]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not now, server_default=default)


def upgrade() -> None:
    """Creates the tables, with row-level security on dead letters for the tenant role."""
    op.create_table(
        "admission",
        _tenant_id(),
        _time("paused_since"),
        sa.Column("paused_reason", sa.Text),
        sa.Column("concurrency_cap", sa.Integer),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_admission"),
        sa.CheckConstraint("concurrency_cap >= 1", name=op.f("ck_admission_concurrency_cap")),
    )
    op.create_table(
        "in_flight",
        _tenant_id(),
        sa.Column("workflow_id", sa.Text, nullable=False),
        _time("since", now=True),
        _time("checked_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "workflow_id", name="pk_in_flight"),
    )
    op.create_index("ix_in_flight_checked_at", "in_flight", ["checked_at"])
    op.create_table(
        "dead_letters",
        _tenant_id(),
        sa.Column("id", sa.Uuid, nullable=False, server_default=sa.text("uuidv7()")),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("workflow_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("message_id", sa.Uuid),
        sa.Column("error_type", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        _time("failed_at", now=True),
        _time("recorded_at", now=True),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'open'")),
        sa.Column("replays", sa.Integer, nullable=False, server_default=sa.text("0")),
        _time("handled_at"),
        sa.Column("handled_by", sa.Text),
        sa.Column("replay_run_id", sa.Text),
        _time("told_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_dead_letters"),
        sa.CheckConstraint(
            "status in ('open', 'replayed', 'resolved', 'discarded')",
            name=op.f("ck_dead_letters_status"),
        ),
    )
    op.create_index(
        "uq_dead_letters_tenant_id_workflow_id",
        "dead_letters",
        ["tenant_id", "workflow_id"],
        unique=True,
    )
    op.create_index("ix_dead_letters_status_failed_at", "dead_letters", ["status", "failed_at"])
    op.create_index("ix_dead_letters_fingerprint_status", "dead_letters", ["fingerprint", "status"])
    op.create_index(
        "ix_dead_letters_untold",
        "dead_letters",
        ["fingerprint"],
        postgresql_where=sa.text("told_at is null"),
    )
    op.create_table(
        "positions",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("upto", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_positions"),
    )
    op.create_table(
        "alerts",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("suppressed", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("name", name="pk_alerts"),
    )
    # The tenant role writes its own tenant's letters; the relay and the platform access all.
    protect("dead_letters")
    tenant, platform, relay = map(quoted, current_installation().roles)
    op.execute(f"revoke delete on dead_letters from {tenant}")
    for policy, role in (("relay_access", relay), ("platform_access", platform)):
        op.execute(f"""
            create policy {policy} on dead_letters
                as permissive for all to {role} using (true) with check (true)
        """)
    op.execute(f"grant select, insert, update on dead_letters to {relay}")
    op.execute(f"grant select, insert, update, delete on dead_letters to {platform}")
    op.execute(f"grant select, insert, update, delete on admission, alerts to {platform}")
    op.execute(f"grant select, insert, update, delete on positions to {platform}")
    op.execute(f"grant select, insert, update on alerts to {relay}")
    op.execute(f"grant select, insert, update, delete on in_flight to {platform}")
    op.execute(f"grant select, insert, update, delete on in_flight to {relay}")
    op.execute(f"grant select on tenants, plans, admission to {relay}")

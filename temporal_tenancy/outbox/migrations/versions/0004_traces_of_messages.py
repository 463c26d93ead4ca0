"""The trace that a message was written in: a W3C `traceparent`, which is 55 characters long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column, which programs of the previous release leave null.

    It is short by its type, which no row has to be read for.
    """
    op.add_column("outbox_messages", sa.Column("traceparent", sa.String(55)))
    role = quoted(current_installation().roles.tenant)
    op.execute(f"grant insert (traceparent) on outbox_messages to {role}")

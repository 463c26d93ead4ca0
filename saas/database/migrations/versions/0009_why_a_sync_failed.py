"""Why an integration's last sync failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds a column that earlier releases leave empty."""
    op.add_column("integrations", sa.Column("error", sa.Text))

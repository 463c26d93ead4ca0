"""How the file of an import is read, and what kind of error ended it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds columns that an earlier release leaves empty."""
    op.add_column("imports", sa.Column("error_type", sa.Text))
    op.add_column("imports", sa.Column("reading", JSONB))

"""How an import reads its file, and the type of the error that ended it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds columns that earlier releases leave empty."""
    op.add_column("imports", sa.Column("error_type", sa.Text))
    op.add_column("imports", sa.Column("reading", JSONB))

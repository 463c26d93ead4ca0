"""Turns that processes take."""

from __future__ import annotations

from alembic import op

from temporal_tenancy.postgres.locks import MAKE_TABLE
from temporal_tenancy.postgres.roles import PLATFORM_ROLE, RELAY_ROLE

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the table where `migrate()`, whose own turn is a row of it, has not; and grants."""
    op.execute(MAKE_TABLE)
    op.execute(f"grant select, insert, update on locks to {PLATFORM_ROLE}, {RELAY_ROLE}")

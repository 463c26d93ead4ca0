"""Named locks between processes."""

from __future__ import annotations

from alembic import op

from temporal_tenancy.postgres.locks import MAKE_TABLE
from temporal_tenancy.postgres.roles import PLATFORM_ROLE, RELAY_ROLE

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Creates the table, unless `migrate()` has for its own lock, and grants access."""
    op.execute(MAKE_TABLE)
    op.execute(f"grant select, insert, update on locks to {PLATFORM_ROLE}, {RELAY_ROLE}")

"""Named locks between processes."""

from __future__ import annotations

from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.locks import MAKE_TABLE

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Creates the table, unless `migrate()` has for its own lock, and grants access."""
    op.execute(MAKE_TABLE)
    _, platform, relay = map(quoted, current_installation().roles)
    op.execute(f"grant select, insert, update on locks to {platform}, {relay}")

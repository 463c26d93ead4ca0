"""The library's tables, and the rights of its roles."""

from __future__ import annotations

from typing import NoReturn

from temporal_tenancy.postgres.branch import refuse_downgrade, upgrade_library

revision = "tenancy_0001"
down_revision = None
branch_labels = ("tenancy",)
depends_on = None

# Of a released file never changed: the next release's revisions are the next file's.
REVISIONS = {"control plane": "0016", "outbox": "0006"}


def upgrade() -> None:
    """Runs the library's migrations up to these revisions."""
    upgrade_library(REVISIONS)


def downgrade() -> NoReturn:
    """Refuses."""
    refuse_downgrade()

"""The deployment of a ledger row's version, and bounds that a release's tenants can reach."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Adds a column, which the previous release neither reads nor writes.

    A release to fewer tenants by name than must fail before it is halted gets the lower bound, with
    which the previous release has compared it.
    """
    op.add_column("ledger", sa.Column("deployment", sa.Text))
    op.execute(
        "update releases set min_tenants = cardinality(tenants)"
        " where cardinality(tenants) between 1 and min_tenants - 1"
    )

"""Brings in temporal-tenancy, and protects our tables."""
from temporal_tenancy import protect
from temporal_tenancy.postgres import upgrade_library

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    upgrade_library()
    for table in ("orders", "order_lines"):
        protect(table, column="organization_id", type="uuid")

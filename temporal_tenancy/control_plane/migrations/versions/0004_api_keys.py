"""Keys by which a tenant's own programs call the HTTP door."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the table."""

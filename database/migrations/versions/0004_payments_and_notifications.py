"""Payment events and what people are told."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the tables, each under row-level security."""

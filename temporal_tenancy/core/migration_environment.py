"""Where a part of the database's migrations are, and where it is written how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class MigrationEnvironment:
    """An Alembic environment: a folder of migrations and the table that says how far they are."""

    name: str  # for people
    script_location: str  # "package:folder"
    version_table: str


CONTROL_PLANE: Final = MigrationEnvironment(
    name="control plane",
    script_location="temporal_tenancy:control_plane/migrations",
    version_table="control_plane_version",
)
OUTBOX: Final = MigrationEnvironment(
    name="outbox",
    script_location="temporal_tenancy:outbox/migrations",
    version_table="outbox_version",
)
LIBRARY: Final = (CONTROL_PLANE, OUTBOX)
"""What `migrate()` runs before the application's own."""

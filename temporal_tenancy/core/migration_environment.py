"""The Alembic environments of the library's two sets of migrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class MigrationEnvironment:
    """An Alembic environment: a folder of migrations and the table with their current revision."""

    name: str  # shown to users
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
"""The environments that `migrate()` runs before the application's own."""

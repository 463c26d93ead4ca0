"""The Alembic environment of the control plane's migrations."""

from temporal_tenancy.control_plane.models import ControlPlane
from temporal_tenancy.postgres.migrations import run_migrations

run_migrations(ControlPlane.metadata)

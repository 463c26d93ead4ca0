"""The Alembic environment of the outbox."""

from temporal_tenancy.outbox.tables import OutboxData
from temporal_tenancy.postgres.migrations import run_migrations

run_migrations(OutboxData.metadata)

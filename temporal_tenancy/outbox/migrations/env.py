"""What Alembic runs for the outbox."""

from temporal_tenancy.outbox.models import OutboxData
from temporal_tenancy.postgres.migrations import run_migrations

run_migrations(OutboxData.metadata)

"""What Alembic runs for the outbox."""

from temporal_tenancy.migrations import run_migrations
from temporal_tenancy.outbox.models import OutboxData

run_migrations(OutboxData.metadata)

"""Alembic's way into the migrations of the tenant-owned tables."""

from database import (  # noqa: F401  # the metadata has their tables
    contacts,
    exports,
    integrations,
    mail,
    payments,
    reports,
    search,
)
from database.models import TenantData
from temporal_tenancy.migrations import run_migrations

run_migrations(TenantData.metadata)

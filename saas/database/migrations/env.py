"""Alembic's entry point to the migrations of the tenant-owned tables."""

from saas.database.models import TenantData
from temporal_tenancy.postgres import run_migrations

run_migrations(TenantData.metadata)

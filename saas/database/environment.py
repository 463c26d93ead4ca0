"""The migrations of the tenant-owned tables; apart from these, so that a command can name them."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.core import MigrationEnvironment

TENANT_DATA: Final = MigrationEnvironment(
    name="tenants' data",
    script_location="saas.database:migrations",
    version_table="tenant_data_version",
)

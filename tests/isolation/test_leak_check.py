"""The leak check, as an application runs it, over the reference SaaS's whole schema."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import saas.database
from dev.devstack.postgres import DatabaseUrls
from saas.database.tables import TenantData
from temporal_tenancy.outbox.tables import OutboxData
from temporal_tenancy.testing import assert_no_leaks


def test_no_statement_reaches_another_tenants_rows(database_urls: DatabaseUrls) -> None:
    for module in pkgutil.iter_modules(saas.database.__path__):
        if not module.ispkg:
            import_module(f"saas.database.{module.name}")  # maps its tables
    assert_no_leaks(
        superuser_url=database_urls.superuser,
        tenant_url=database_urls.tenant,
        models=[TenantData, OutboxData],
    )

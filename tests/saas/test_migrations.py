"""The migrations of the reference SaaS create what its models declare."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from dev.devstack.postgres import DatabaseUrls
from saas.database.environment import TENANT_DATA
from saas.database.tables import TenantData
from temporal_tenancy.control_plane.tables import ControlPlane
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.outbox.tables import OutboxData
from temporal_tenancy.postgres.migrations import pending
from tests.library.postgres.test_database_migrations import constraints_of, tables_differ


@pytest.mark.parametrize("metadata", [ControlPlane.metadata, TenantData.metadata])
def test_the_migrations_make_the_tables_of_the_models(
    database_urls: DatabaseUrls, metadata: MetaData
) -> None:
    assert tables_differ(database_urls, metadata) == []


def test_the_migrations_make_the_constraints_of_the_models(
    database_urls: DatabaseUrls, empty_urls: DatabaseUrls
) -> None:
    every = (ControlPlane.metadata, OutboxData.metadata, TenantData.metadata)
    made, modelled = constraints_of(database_urls, empty_urls, every)
    assert made == modelled
    assert len(made) > 20


def test_an_empty_database_is_behind_in_its_tables_too(empty_urls: DatabaseUrls) -> None:
    assert len(pending(empty_urls.owner, (*LIBRARY, TENANT_DATA))) == 3

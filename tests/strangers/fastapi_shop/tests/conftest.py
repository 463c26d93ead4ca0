from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from temporal_tenancy import Database
from temporal_tenancy.testing import InMemoryDirectory, make_tenant

ACME = "0192f0c1-2b4d-7e8f-9abc-def012345678"
GLOBEX = "0192f0c1-2b4d-7e8f-9abc-def0123456ab"


@pytest.fixture
def tenancy_directory() -> InMemoryDirectory:
    return InMemoryDirectory([make_tenant(ACME), make_tenant(GLOBEX)])


@pytest.fixture
async def tenancy_database() -> AsyncIterator[Database]:
    database = Database(tenant_url=os.environ["TENANT_DATABASE_URL"])
    yield database
    await database.dispose()

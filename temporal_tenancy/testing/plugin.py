"""The pytest plugin: fixtures for tests of applications that use the library.

The package brings it as an entry point; `pytest_plugins = ["temporal_tenancy.testing.plugin"]` does
the same. A `conftest.py` overrides a fixture by one of the same name. Each imports what it needs
when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from temporal_tenancy.core.directory import Tenant
    from temporal_tenancy.postgres.database import Database
    from temporal_tenancy.testing._activities import TenantActivityEnvironment
    from temporal_tenancy.testing._directory import InMemoryDirectory


@pytest.fixture
def tenancy_directory() -> InMemoryDirectory:
    """A directory in memory with the active tenants `acme` and `globex`."""
    from temporal_tenancy.testing._directory import InMemoryDirectory, make_tenant

    return InMemoryDirectory([make_tenant("acme"), make_tenant("globex")])


@pytest.fixture
def tenancy_database() -> Database | None:
    """The database of the tests, which `conftest.py` gives; None: tests have no sessions."""
    return None


@pytest.fixture
def tenant_activities(
    tenancy_directory: InMemoryDirectory, tenancy_database: Database | None
) -> Callable[..., TenantActivityEnvironment]:
    """Makes environments that run a tenant's activities: `tenant_activities("acme")`.

    They take the arguments of `TenantActivityEnvironment`; the tenant is one of
    `tenancy_directory`, and sessions open on `tenancy_database`.
    """
    from temporal_tenancy.testing._activities import TenantActivityEnvironment

    def make(tenant: Tenant | str, **options: Any) -> TenantActivityEnvironment:
        given = {"directory": tenancy_directory, "database": tenancy_database, **options}
        return TenantActivityEnvironment(tenant, **given)

    return make


@pytest.fixture
def in_tenant(
    tenancy_directory: InMemoryDirectory, tenancy_database: Database | None
) -> Callable[[str], AbstractContextManager[None]]:
    """Makes contexts that enter a tenant of `tenancy_directory`, by its id.

    Inside, `tenant_session()` opens on `tenancy_database`, and `current_tenant_record()` works.
    """

    def enter(tenant_id: str) -> AbstractContextManager[None]:
        from temporal_tenancy.postgres import acting_for

        if tenancy_database is None:
            raise pytest.UsageError(
                "in_tenant needs a database: give conftest.py a fixture tenancy_database that "
                "returns one."
            )
        if tenant_id not in tenancy_directory.tenants:
            raise pytest.UsageError(
                f"tenancy_directory has no tenant {tenant_id}. Add it with make_tenant()."
            )
        return acting_for(tenancy_directory.tenants[tenant_id], tenancy_database)

    return enter

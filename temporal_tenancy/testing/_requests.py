"""Requests of a tenant, for tests of a web application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from temporal_tenancy.core.directory import Tenant, require_record
from temporal_tenancy.postgres import acting_for
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.testing._directory import make_tenant


def acting_as(tenant: Tenant | str, database: Database) -> Callable[[], AsyncIterator[Tenant]]:
    """Returns a FastAPI dependency that takes the place of the one that finds out the tenant.

    `app.dependency_overrides[the_tenant] = acting_as("acme", database)`. The request then runs in
    the tenant's scope, with `tenant_session()` on `database` and `current_tenant_record()`; the
    dependency's value is the tenant.

    Args:
        tenant: the tenant, or the id of an active one.
        database: the test's database.
    """
    record = make_tenant(tenant) if isinstance(tenant, str) else require_record(tenant)

    async def dependency() -> AsyncIterator[Tenant]:
        with acting_for(record, database):
            yield record

    return dependency

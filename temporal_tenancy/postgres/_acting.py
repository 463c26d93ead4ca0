"""Runs code for a tenant outside its jobs, as in an HTTP door or a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporal_tenancy.core.directory import Tenant, require_record, use_tenant_record
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres.database import Database, use_database


@contextmanager
def acting_for(tenant: Tenant, database: Database) -> Iterator[None]:
    """Runs the block in a tenant's scope, as an activity does.

    Inside it, `tenant_session()` opens on `database`, and `current_tenant_record()` returns
    `tenant`.

    Raises:
        TenantMissing: `tenant` is None.
        TenantInvalid: it is no `Tenant`, such as an id.
    """
    require_record(tenant)
    with use_database(database), enter(TenantScope(tenant.id)), use_tenant_record(tenant):
        yield

"""Whether a run waits for the migration of its tenant's store."""

from __future__ import annotations

from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.jobs import Job


def behind(tenant: Tenant, job: Job) -> TenancyError | None:
    """Returns why a run waits for the migration of its tenant's store; None if it does not."""
    if tenant.schema_versions is None:
        return None
    # Imported here: only a tenant with a store of its own needs it.
    from temporal_tenancy.stores import migrated_stores

    waits_for = migrated_stores(current_application().environments).waits_for
    return None if waits_for is None else waits_for(tenant, job)

"""A kit for the tests of applications that use the library."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus

STANDARD_PLAN = Plan(id="standard")


def make_tenant(
    tenant_id: str,
    status: TenantStatus = TenantStatus.ACTIVE,
    *,
    plan: Plan = STANDARD_PLAN,
    **fields: Any,  # any other field of Tenant
) -> Tenant:
    """A tenant with everything a directory must say of it."""
    return Tenant(
        id=tenant_id,
        status=status,
        plan=plan,
        **{"name": tenant_id, "status_since": datetime.now(UTC), **fields},
    )


class InMemoryDirectory:
    """A `TenantDirectory` in a dictionary, which a test may change while jobs run."""

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self.tenants = {tenant.id: tenant for tenant in tenants}

    def add(self, *tenants: Tenant) -> None:
        """Adds tenants, or puts others in their place."""
        self.tenants.update({tenant.id: tenant for tenant in tenants})

    def set_status(self, tenant_id: str, status: TenantStatus) -> None:
        """Changes a tenant's status as of now."""
        changed = {"status": status, "status_since": datetime.now(UTC)}
        self.tenants[tenant_id] = self.tenants[tenant_id].model_copy(update=changed)

    async def find(self, tenant_id: str) -> Tenant | None:
        """As `TenantDirectory.find`."""
        return self.tenants.get(tenant_id)

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """As `TenantDirectory.find_many`."""
        return [self.tenants[each] for each in tenant_ids if each in self.tenants]

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """As `TenantDirectory.page`."""
        wanted = statuses or [s for s in TenantStatus if s is not TenantStatus.DELETED]
        found = sorted(self.tenants.values(), key=lambda tenant: tenant.id)
        return [
            tenant
            for tenant in found
            if tenant.status in wanted
            and tenant.id > (after or "")
            and (time_zones is None or tenant.time_zone in time_zones)
        ][:limit]

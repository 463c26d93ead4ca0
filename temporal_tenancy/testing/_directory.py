"""Tenants and a tenant directory in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus

__all__ = ["STANDARD_PLAN", "InMemoryDirectory", "make_tenant"]

STANDARD_PLAN = Plan(id="standard")
"""A plan without features or limits."""


def make_tenant(
    tenant_id: str,
    status: TenantStatus = TenantStatus.ACTIVE,
    *,
    plan: Plan = STANDARD_PLAN,
    **fields: Any,  # any other field of Tenant
) -> Tenant:
    """Returns a tenant with defaults for all required fields.

    Args:
        tenant_id: the id; also the default name.
        status: the status, since now unless `status_since` is given.
        plan: the plan; the default is "standard", without features or limits.
        **fields: any other field of `Tenant`.

    Raises:
        ValidationError: a field does not fit `Tenant`.
        TenancyError: the id is not a tenant id.
    """
    return Tenant(
        id=tenant_id,
        status=status,
        plan=plan,
        **{"name": tenant_id, "status_since": datetime.now(UTC), **fields},
    )


class InMemoryDirectory:
    """A `TenantDirectory` in memory, which a test can change while jobs run."""

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self.tenants = {tenant.id: tenant for tenant in tenants}

    def add(self, *tenants: Tenant) -> None:
        """Adds tenants, or replaces those with the same id."""
        self.tenants.update({tenant.id: tenant for tenant in tenants})

    def set_status(self, tenant_id: str, status: TenantStatus) -> None:
        """Changes a tenant's status from now on.

        Raises:
            KeyError: there is no such tenant.
        """
        changed = {"status": status, "status_since": datetime.now(UTC)}
        self.tenants[tenant_id] = self.tenants[tenant_id].model_copy(update=changed)

    async def find(self, tenant_id: str) -> Tenant | None:
        """Like `TenantDirectory.find`."""
        return self.tenants.get(tenant_id)

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Like `TenantDirectory.find_many`."""
        return [self.tenants[id_] for id_ in tenant_ids if id_ in self.tenants]

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """Like `TenantDirectory.page`."""
        included = statuses or [s for s in TenantStatus if s is not TenantStatus.DELETED]
        ordered = sorted(self.tenants.values(), key=lambda tenant: tenant.id)
        return [
            tenant
            for tenant in ordered
            if tenant.status in included
            and tenant.id > (after or "")
            and (time_zones is None or tenant.time_zone in time_zones)
        ][:limit]

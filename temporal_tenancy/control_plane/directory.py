"""The tenant directory of the control plane."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.orm import contains_eager

from temporal_tenancy.control_plane.tables import PlanRow, StoreRow, TenantRow
from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus, outside_own_scope
from temporal_tenancy.core.identifiers import may_exist
from temporal_tenancy.core.stores import SHARED_STORE, Isolation
from temporal_tenancy.postgres.database import Database

LIVING: Final = tuple(status for status in TenantStatus if status is not TenantStatus.DELETED)


class ControlPlaneDirectory:
    """A `TenantDirectory` over the table `tenants`, which it reads as the platform.

    Code in a tenant's scope can `find` its own tenant and nothing else.

    Raises:
        ScopeMissing: code in a tenant's scope asks about others.
    """

    def __init__(self, database: Database) -> None:
        """
        Args:
            database: the one with the control plane's tables.
        """
        self._database = database

    async def find(self, tenant_id: str) -> Tenant | None:
        """Like `TenantDirectory.find`; one query."""
        if not may_exist(tenant_id):
            return None
        with outside_own_scope(tenant_id):
            async with self._database.platform_session("look up a tenant") as session:
                row = await session.scalar(tenants().where(TenantRow.id == tenant_id))
                return None if row is None else tenant_of(row)

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Like `TenantDirectory.find_many`; one query."""
        async with self._database.platform_session("look up tenants") as session:
            query = tenants().where(TenantRow.id.in_(list(filter(may_exist, tenant_ids))))
            return [tenant_of(row) for row in await session.scalars(query)]

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """Like `TenantDirectory.page`; one query, whose cost does not depend on the position."""
        query = (
            tenants()
            .where(TenantRow.status.in_(LIVING if statuses is None else statuses))
            .order_by(TenantRow.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(TenantRow.id > after)
        if time_zones is not None:
            query = query.where(TenantRow.time_zone.in_(time_zones))
        async with self._database.platform_session("enumerate tenants") as session:
            return [tenant_of(row) for row in await session.scalars(query)]


def tenants() -> Select[TenantRow]:
    """Returns a query for tenants with their plans, and how far their own stores are migrated."""
    return (
        select(TenantRow)
        .join(TenantRow.plan)
        .outerjoin(TenantRow.own_store)
        .options(
            contains_eager(TenantRow.plan),
            contains_eager(TenantRow.own_store).load_only(StoreRow.versions),
        )
    )


def plan_of(row: PlanRow) -> Plan:
    """Converts a row of the table `plans`."""
    return Plan(
        id=row.id,
        fairness_weight=row.fairness_weight,
        concurrency_cap=row.concurrency_cap,
        rate_limits=row.rate_limits,
        features=frozenset(row.features),
        retention_days=row.retention_days,
        pool_share=row.pool_share,
        statement_timeout=row.statement_timeout,
        lock_timeout=row.lock_timeout,
        idle_timeout=row.idle_timeout,
        transaction_timeout=row.transaction_timeout,
    )


def tenant_of(row: TenantRow) -> Tenant:
    """Converts a row of `tenants()` to a `Tenant`."""
    return Tenant(
        id=row.id,
        name=row.name,
        status=TenantStatus(row.status),
        status_since=row.status_since,
        plan=plan_of(row.plan),
        features=frozenset(row.features),
        time_zone=row.time_zone,
        settings=row.settings,
        trial_ends_at=row.trial_ends_at,
        isolation=Isolation(row.isolation),
        store=row.store or SHARED_STORE,
        schema_versions=None if row.own_store is None else row.own_store.versions,
    )

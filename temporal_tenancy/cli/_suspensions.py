"""Why tenants are suspended, as the operator who suspended them said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from temporal_tenancy.cli.program import current_application
from temporal_tenancy.control_plane.tables import TenantRow
from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.postgres.database import Database


async def suspension_reasons(database: Database, tenants: Sequence[Tenant]) -> Mapping[str, str]:
    """Returns the reasons of suspended tenants, each as ` (reason)`, by tenant id.

    A tenant without a reason is omitted, and so is each of an application's own directory.
    """
    suspended = [each.id for each in tenants if each.status is TenantStatus.SUSPENDED]
    if not suspended or current_application().has_own_directory:
        return {}
    query = select(TenantRow.id, TenantRow.status_reason).where(TenantRow.id.in_(suspended))
    async with database.platform_session("read why tenants are suspended") as session:
        rows = (await session.execute(query)).all()
    return {row.id: f" ({row.status_reason})" for row in rows if row.status_reason}

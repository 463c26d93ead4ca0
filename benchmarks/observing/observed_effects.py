"""The activity of the observed job: it reads and writes a little."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from temporal_tenancy import TenantInput, tenant_activity, tenant_session

_ADD: Final = text(
    "insert into audit_entries (tenant_id, actor, action, subject, details) "
    "values (:tenant, 'bench', 'noted', :subject, '{}')"
)
_READ: Final = text("select subject from audit_entries order by id desc limit 1")


class Observed(TenantInput):
    """Input of the job."""

    number: int = 0


@tenant_activity
async def add_observed(job: Observed) -> str:
    """Adds an entry to the tenant's audit log; returns the subject of the last one."""
    async with tenant_session() as session:
        await session.execute(_ADD, {"tenant": job.tenant_id, "subject": str(job.number)})
        return str(await session.scalar(_READ))

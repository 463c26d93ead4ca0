"""Admission of a tenant's outbox messages: pausing them, and a cap that overrides its plan's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import AdmissionRow, InFlightRow
from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database

CHANNEL: Final = "tenancy_outbox"  # NOTIFY channel that wakes relays; the payload is empty


class Admission:
    """The table `admission`. Relays apply a change from their next claim on.

    Every method runs as the platform.

    Raises:
        ScopeMissing: a method was called in a tenant's scope.
    """

    def __init__(self, database: Database, directory: TenantDirectory | None = None) -> None:
        """
        Args:
            database: the one with the control plane's tables.
            directory: where tenants are looked up; None: the control plane's own table.
        """
        self._database = database
        self._directory = ControlPlaneDirectory(database) if directory is None else directory

    async def pause(self, tenant_id: str, reason: str | None = None) -> None:
        """Stops releasing a tenant's messages. Workflows that run already continue.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        await self._decide(tenant_id, paused_since=func.now(), paused_reason=reason)

    async def resume(self, tenant_id: str) -> None:
        """Releases a tenant's messages again, after `pause`.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        await self._decide(tenant_id, paused_since=None, paused_reason=None)

    async def set_cap(
        self, tenant_id: str, cap: int | None, *, running: Sequence[str] = ()
    ) -> None:
        """Limits how many of a tenant's released jobs run at once.

        Args:
            tenant_id: whose jobs.
            cap: jobs, at least 1; None restores the cap of the plan.
            running: workflow ids of the tenant's jobs that run already, to count against the cap.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        await self._decide(tenant_id, concurrency_cap=cap)
        if cap is not None and running:
            async with self._database.platform_session("record running workflows") as session:
                rows = [
                    {"tenant_id": tenant_id, "workflow_id": workflow_id} for workflow_id in running
                ]
                await session.execute(insert(InFlightRow).values(rows).on_conflict_do_nothing())

    async def _decide(self, tenant_id: str, **values: object) -> None:
        if await self._directory.find(tenant_id) is None:
            raise unknown(tenant_id)
        async with self._database.platform_session("change the admission of messages") as session:
            inserted = insert(AdmissionRow).values(tenant_id=tenant_id, **values)
            await session.execute(
                inserted.on_conflict_do_update(index_elements=["tenant_id"], set_=values)
            )
            await wake_relays(session)


async def wake_relays(session: AsyncSession) -> None:
    """Wakes all relays when the transaction of `session` is committed."""
    await session.execute(text(f"select pg_notify('{CHANNEL}', '')"))

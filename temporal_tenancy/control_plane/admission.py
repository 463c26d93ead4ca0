"""Deciding what is released of a tenant's messages: a pause, and a cap beside its plan's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import AdmissionRow, InFlightRow
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database

CHANNEL: Final = "tenancy_outbox"  # of NOTIFY, by which relays are woken; what it says is empty


class Admission:
    """The table `admission`. Relays heed a change in their next claim."""

    def __init__(self, database: Database) -> None:
        """`database` is where the control plane is."""
        self._database = database

    async def pause(self, tenant_id: str, reason: str | None = None) -> None:
        """Releases none of a tenant's messages from now on; what runs goes on.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        await self._decide(tenant_id, paused_since=func.now(), paused_reason=reason)

    async def resume(self, tenant_id: str) -> None:
        """Releases a tenant's messages again.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        await self._decide(tenant_id, paused_since=None, paused_reason=None)

    async def set_cap(
        self, tenant_id: str, cap: int | None, *, running: Sequence[str] = ()
    ) -> None:
        """Lets at most `cap` of a tenant's released jobs run at once; None: what its plan says.

        `running` are the ids of its workflows that run already and are to count.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        await self._decide(tenant_id, concurrency_cap=cap)
        if cap is not None and running:
            async with self._database.platform_session("count what runs") as session:
                rows = [{"tenant_id": tenant_id, "workflow_id": each} for each in running]
                await session.execute(insert(InFlightRow).values(rows).on_conflict_do_nothing())

    async def _decide(self, tenant_id: str, **values: object) -> None:
        if await ControlPlaneDirectory(self._database).find(tenant_id) is None:
            raise unknown(tenant_id)
        async with self._database.platform_session("decide on messages") as session:
            decided = insert(AdmissionRow).values(tenant_id=tenant_id, **values)
            await session.execute(
                decided.on_conflict_do_update(index_elements=["tenant_id"], set_=values)
            )
            await wake_relays(session)


async def wake_relays(session: AsyncSession) -> None:
    """Lets relays look again once the transaction of `session` is committed."""
    await session.execute(text(f"select pg_notify('{CHANNEL}', '')"))

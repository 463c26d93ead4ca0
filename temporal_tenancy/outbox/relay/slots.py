"""A tenant's slots under its concurrency cap: one is free again when a workflow has ended."""

from __future__ import annotations

from temporal_tenancy.control_plane.admission import wake_relays
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.sdk.endings import SlotHolder


@platform_activity("frees a slot under a tenant's concurrency cap")
async def free_slot(holder: SlotHolder) -> None:
    """Frees the slot of a workflow that ends, and lets the relays know."""
    async with platform_session("free a slot") as session:
        await queue.free_slots(session, [(holder.tenant_id, holder.workflow_id)])
        await wake_relays(session)

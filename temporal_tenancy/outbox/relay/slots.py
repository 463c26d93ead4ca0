"""The activity that frees a tenant's slot under its concurrency cap when a workflow ends."""

from __future__ import annotations

from temporal_tenancy.control_plane.admission import wake_relays
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.sdk.endings import SlotHolder


@platform_activity("frees a slot under a tenant's concurrency cap")
async def free_slot(holder: SlotHolder) -> None:
    """Frees the slot of a workflow that is ending, and wakes the relays."""
    async with platform_session("free a slot") as session:
        await queue.free_slots(session, [(holder.tenant_id, holder.workflow_id)])
        await wake_relays(session)

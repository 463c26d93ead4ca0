"""A tenant's slots under its concurrency cap: one is free again when a workflow has ended."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from temporal_tenancy.control_plane.admission import wake_relays
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.postgres.database import platform_session

SLOT: Final = "tenancy-slot"  # the memo of a workflow that holds one


class SlotHolder(TenantInput):
    """A workflow that has held a slot."""

    workflow_id: str


@platform_activity("frees a slot under a tenant's concurrency cap")
async def free_slot(holder: SlotHolder) -> None:
    """Frees the slot of a workflow that ends, and lets the relays know."""
    async with platform_session("free a slot") as session:
        await queue.free_slots(session, [(holder.tenant_id, holder.workflow_id)])
        await wake_relays(session)


async def free_own_slot() -> None:
    """Frees the slot of the running workflow, if it holds one.

    Where that does not succeed the workflow ends all the same: a relay looks after slots whose
    workflow has ended in any other way.
    """
    if not workflow.memo_value(SLOT, default=False):
        return
    workflow_id = workflow.info().workflow_id
    tenant = workflow_id.split("/", 1)[0]
    with suppress(FailureError):
        await workflow.execute_local_activity(
            free_slot,
            SlotHolder(tenant_id=tenant, workflow_id=workflow_id),
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=2),
        )

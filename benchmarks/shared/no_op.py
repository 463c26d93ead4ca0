"""The no-op activity, and the settings that its workflows share."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel
from temporalio import activity

from temporal_tenancy import tenant_activity

OUR_QUEUE: Final = "bench-ours"
BARE_QUEUE: Final = "bench-bare"
WINDOW: Final = 100  # children at once
STEPS: Final = 40  # consecutive activities of a run
TIMEOUT: Final = timedelta(minutes=1)
STUCK: Final = "stuck"  # the note that makes one tenant in a hundred hang
STUCK_TIMEOUT: Final = timedelta(minutes=10)


def is_stuck(tenant_id: str) -> bool:
    """Whether a tenant is the one in a hundred that hangs."""
    return tenant_id.endswith("50")


class Nothing(BaseModel):
    """Input of the activity."""

    note: str = "none"


@tenant_activity
async def our_no_op(request: Nothing) -> str:
    """Does nothing, for a tenant."""
    return request.note


@activity.defn
async def bare_no_op(request: Nothing) -> str:
    """Does nothing."""
    return request.note

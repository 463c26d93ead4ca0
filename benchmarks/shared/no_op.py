"""The activity that does nothing, and the settings that workflows of it share."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel
from temporalio import activity

from temporal_tenancy import tenant_activity

OUR_QUEUE: Final = "bench-ours"
BARE_QUEUE: Final = "bench-bare"
WINDOW: Final = 100  # children at once
STEPS: Final = 40  # activities of a run that are one after the other
TIMEOUT: Final = timedelta(minutes=1)
STUCK: Final = "stuck"  # the note that lets one tenant in a hundred hang
STUCK_TIMEOUT: Final = timedelta(minutes=10)


def is_stuck(tenant_id: str) -> bool:
    """Whether a tenant is the one in a hundred that never answers."""
    return tenant_id.endswith("50")


class Nothing(BaseModel):
    """What the activity takes."""

    note: str = "none"


@tenant_activity
async def our_no_op(request: Nothing) -> str:
    """Does nothing, for a tenant."""
    return request.note


@activity.defn
async def bare_no_op(request: Nothing) -> str:
    """Does nothing."""
    return request.note

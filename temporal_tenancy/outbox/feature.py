"""What the plugin is given for the outbox."""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE, OUTBOX
from temporal_tenancy.outbox.relay.slots import free_slot
from temporal_tenancy.outbox.work_off import WorkOffMessages, work_off_messages
from temporal_tenancy.sdk.features import Feature


def outbox() -> Feature:
    """The feature: messages that are worked off together, and slots that are freed.

    Its workers need the migrations of the control plane and of the outbox. The relay is a process
    of its own, and no part of it.
    """
    return Feature(
        "outbox",
        workflows=(WorkOffMessages,),
        activities=(work_off_messages, free_slot),
        migrations=(CONTROL_PLANE, OUTBOX),
    )

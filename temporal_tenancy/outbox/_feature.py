"""The outbox as a feature of the plugin."""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE, OUTBOX
from temporal_tenancy.outbox.probe.workflow import Probe, answering
from temporal_tenancy.outbox.relay.slots import free_slot
from temporal_tenancy.outbox.work_off import WorkOffMessages, work_off_messages
from temporal_tenancy.sdk.features import Feature


def outbox() -> Feature:
    """Returns the feature that coalesced messages and concurrency caps need on a worker.

    It adds the workflow and the activity that handle several messages together, the activity that
    frees a tenant's slot, and those that answer a `doctor`'s probe. Its workers need the migrations
    of the control plane and of the outbox. The relay is a separate process and not part of it.
    """
    return Feature(
        "outbox",
        workflows=(WorkOffMessages, Probe),
        activities=(work_off_messages, free_slot),
        migrations=(CONTROL_PLANE, OUTBOX),
        of_worker=answering,
    )

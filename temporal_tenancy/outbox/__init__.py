"""Job requests that are written in the transaction of the data they are about.

A relay turns them into workflows; `processed_events` lets a consumer see that it was there before.
"""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE, OUTBOX
from temporal_tenancy.outbox.enqueueing import (
    Enqueued,
    KeyTaken,
    enqueue,
    enqueue_many,
    enqueue_or_find,
)
from temporal_tenancy.outbox.events import current_event_id, once
from temporal_tenancy.outbox.models import MessageStatus, OutboxMessage, ProcessedEvent
from temporal_tenancy.outbox.relay.slots import free_slot
from temporal_tenancy.outbox.work_off import WorkOffMessages, work_off_messages
from temporal_tenancy.sdk.features import Feature

__all__ = [
    "Enqueued",
    "KeyTaken",
    "MessageStatus",
    "OutboxMessage",
    "ProcessedEvent",
    "current_event_id",
    "enqueue",
    "enqueue_many",
    "enqueue_or_find",
    "once",
    "outbox",
]


def outbox() -> Feature:
    """The feature: messages that are worked off together, and slots that are freed."""
    return Feature(
        "outbox",
        workflows=(WorkOffMessages,),
        activities=(work_off_messages, free_slot),
        migrations=(CONTROL_PLANE, OUTBOX),
    )

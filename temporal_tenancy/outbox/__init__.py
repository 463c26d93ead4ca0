"""Job requests that are written in the transaction of the data they are about.

A relay turns them into workflows; `processed_events` lets a consumer see that it was there before.
"""

from __future__ import annotations

from temporal_tenancy.outbox.enqueueing import (
    Enqueued,
    KeyTaken,
    enqueue,
    enqueue_many,
    enqueue_or_find,
)
from temporal_tenancy.outbox.events import current_event_id, once
from temporal_tenancy.outbox.models import MessageStatus, OutboxMessage, ProcessedEvent

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
]

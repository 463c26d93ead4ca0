"""The transactional outbox: job requests written in the same transaction as their data.

A relay turns the requests into workflows. `processed_events` lets a consumer skip an event that it
has already processed. This module exports the package's whole public API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.outbox.enqueueing import (
        Enqueued,
        KeyTaken,
        PayloadTooLarge,
        enqueue,
        enqueue_many,
        enqueue_or_find,
    )
    from temporal_tenancy.outbox.events import current_event_id, once
    from temporal_tenancy.outbox.feature import outbox
    from temporal_tenancy.outbox.inspection import Backlog, backlogs, find_message
    from temporal_tenancy.outbox.relay.admission import (
        Decision,
        cap_of,
        decisions,
        held_back,
        in_flight,
    )
    from temporal_tenancy.outbox.relay.messages import Message, Unit
    from temporal_tenancy.outbox.relay.options import RelayOptions
    from temporal_tenancy.outbox.relay.relay import Relay
    from temporal_tenancy.outbox.relay.starting import Deliver, ServerAway, start_unit
    from temporal_tenancy.outbox.retries import RetryLadder
    from temporal_tenancy.outbox.tables import WAITING, MessageStatus, OutboxMessage, ProcessedEvent
    from temporal_tenancy.outbox.waiting import (
        ByKey,
        MessageTaken,
        MessageUnknown,
        Waiting,
        cancel,
        reschedule,
    )

__all__ = [
    "WAITING",
    "Backlog",
    "ByKey",
    "Decision",
    "Deliver",
    "Enqueued",
    "KeyTaken",
    "Message",
    "MessageStatus",
    "MessageTaken",
    "MessageUnknown",
    "OutboxMessage",
    "PayloadTooLarge",
    "ProcessedEvent",
    "Relay",
    "RelayOptions",
    "RetryLadder",
    "ServerAway",
    "Unit",
    "Waiting",
    "backlogs",
    "cancel",
    "cap_of",
    "current_event_id",
    "decisions",
    "enqueue",
    "enqueue_many",
    "enqueue_or_find",
    "find_message",
    "held_back",
    "in_flight",
    "once",
    "outbox",
    "reschedule",
    "start_unit",
]

_WHERE: Final = {
    "Backlog": "inspection",
    "ByKey": "waiting",
    "Decision": "relay.admission",
    "Deliver": "relay.starting",
    "Enqueued": "enqueueing",
    "KeyTaken": "enqueueing",
    "Message": "relay.messages",
    "MessageStatus": "tables",
    "MessageTaken": "waiting",
    "MessageUnknown": "waiting",
    "OutboxMessage": "tables",
    "PayloadTooLarge": "enqueueing",
    "ProcessedEvent": "tables",
    "Relay": "relay.relay",
    "RelayOptions": "relay.options",
    "RetryLadder": "retries",
    "ServerAway": "relay.starting",
    "Unit": "relay.messages",
    "WAITING": "tables",
    "Waiting": "waiting",
    "backlogs": "inspection",
    "cancel": "waiting",
    "cap_of": "relay.admission",
    "current_event_id": "events",
    "decisions": "relay.admission",
    "enqueue": "enqueueing",
    "enqueue_many": "enqueueing",
    "enqueue_or_find": "enqueueing",
    "find_message": "inspection",
    "held_back": "relay.admission",
    "in_flight": "relay.admission",
    "once": "events",
    "outbox": "feature",
    "reschedule": "waiting",
    "start_unit": "relay.starting",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

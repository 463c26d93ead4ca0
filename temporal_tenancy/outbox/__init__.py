"""The transactional outbox: job requests written in the same transaction as their data.

A relay turns the requests into workflows. `processed_events` lets a consumer skip an event that it
has already processed. This module exports the package's whole public API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.outbox._events import (
        current_event_id,
        current_event_ids,
        once,
        once_each,
    )
    from temporal_tenancy.outbox._feature import outbox
    from temporal_tenancy.outbox._raw_requests import enqueue_in, enqueue_many_in, once_in
    from temporal_tenancy.outbox._requests import (
        Requested,
        RequestState,
        RunStatus,
        request_job,
        request_state,
        run_status,
    )
    from temporal_tenancy.outbox.enqueueing import (
        Enqueued,
        KeyTaken,
        PayloadTooLarge,
        enqueue,
        enqueue_many,
        enqueue_or_find,
    )
    from temporal_tenancy.outbox.relay.messages import Unit
    from temporal_tenancy.outbox.relay.options import RelayOptions
    from temporal_tenancy.outbox.relay.relay import Relay
    from temporal_tenancy.outbox.relay.starting import Deliver, start_unit
    from temporal_tenancy.outbox.retries import RetryLadder
    from temporal_tenancy.outbox.tables import MessageStatus, OutboxMessage, ProcessedEvent
    from temporal_tenancy.outbox.waiting import (
        ByKey,
        MessageTaken,
        MessageUnknown,
        Waiting,
        cancel,
        reschedule,
    )

__all__ = [
    "ByKey",
    "Deliver",
    "Enqueued",
    "KeyTaken",
    "MessageStatus",
    "MessageTaken",
    "MessageUnknown",
    "OutboxMessage",
    "PayloadTooLarge",
    "ProcessedEvent",
    "Relay",
    "RelayOptions",
    "RequestState",
    "Requested",
    "RetryLadder",
    "RunStatus",
    "Unit",
    "Waiting",
    "cancel",
    "current_event_id",
    "current_event_ids",
    "enqueue",
    "enqueue_in",
    "enqueue_many",
    "enqueue_many_in",
    "enqueue_or_find",
    "once",
    "once_each",
    "once_in",
    "outbox",
    "request_job",
    "request_state",
    "reschedule",
    "run_status",
    "start_unit",
]

_WHERE: Final = {
    "ByKey": "waiting",
    "Deliver": "relay.starting",
    "Enqueued": "enqueueing",
    "KeyTaken": "enqueueing",
    "MessageStatus": "tables",
    "MessageTaken": "waiting",
    "MessageUnknown": "waiting",
    "OutboxMessage": "tables",
    "PayloadTooLarge": "enqueueing",
    "ProcessedEvent": "tables",
    "Relay": "relay.relay",
    "RelayOptions": "relay.options",
    "RequestState": "_requests",
    "Requested": "_requests",
    "RetryLadder": "retries",
    "RunStatus": "_requests",
    "Unit": "relay.messages",
    "Waiting": "waiting",
    "cancel": "waiting",
    "current_event_id": "_events",
    "current_event_ids": "_events",
    "enqueue": "enqueueing",
    "enqueue_in": "_raw_requests",
    "enqueue_many": "enqueueing",
    "enqueue_many_in": "_raw_requests",
    "enqueue_or_find": "enqueueing",
    "once": "_events",
    "once_each": "_events",
    "once_in": "_raw_requests",
    "outbox": "_feature",
    "request_job": "_requests",
    "request_state": "_requests",
    "reschedule": "waiting",
    "run_status": "_requests",
    "start_unit": "relay.starting",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)

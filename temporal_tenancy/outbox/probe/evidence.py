"""What the server knows of a probe's run: who took its tasks, and who did not end one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_tenancy.outbox.probe.starting import probe_id

_STARTED: Final = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED: "workflow_task_started_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: "activity_task_started_event_attributes",
}
_ENDED: Final = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: "workflow_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
}
_TIMED_OUT: Final = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: "workflow_task_timed_out_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
}


@dataclass
class Evidence:
    """What became of a probe's tasks, by the workers' identities."""

    silent: set[str] = field(default_factory=set)  # took a task, and answered none
    answered: set[str] = field(default_factory=set)  # ended a task
    strangers: set[str] = field(default_factory=set)  # do not know the probe's workflow
    activity_waits: bool = False  # whether a task of an activity was taken by nobody


async def evidence(client: Client, key: str) -> Evidence:
    """Reads what became of the tasks of the probe with this key; raises `RPCError`."""
    handle = client.get_workflow_handle(probe_id(key))
    found = Evidence()
    begun: dict[int, str] = {}  # identities, by the event in which they took a task
    async for event in handle.fetch_history_events():
        _read(event, begun, found)
    described = await handle.describe()
    for pending in described.raw_description.pending_activities:
        if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
            found.silent.add(pending.last_worker_identity)
        else:
            found.activity_waits = True
    found.silent.update(begun.values())
    found.silent -= found.answered  # slow, and not stopped
    for identities in (found.silent, found.answered, found.strangers):
        identities.discard("")
    return found


def _read(event: HistoryEvent, begun: dict[int, str], found: Evidence) -> None:
    kind = EventType.ValueType(event.event_type)
    if kind in _STARTED:
        begun[event.event_id] = str(getattr(event, _STARTED[kind]).identity)
    elif kind in _ENDED:
        found.answered.add(begun.pop(getattr(event, _ENDED[kind]).started_event_id, ""))
    elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
        failed = event.workflow_task_failed_event_attributes
        found.strangers.add(begun.pop(failed.started_event_id, failed.identity))
    elif kind in _TIMED_OUT:
        identity = begun.pop(getattr(event, _TIMED_OUT[kind]).started_event_id, "")
        if identity:
            found.silent.add(identity)
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
            found.activity_waits = True


async def end(client: Client, key: str) -> None:
    """Ends the probe with this key, if it still runs; the server ends it soon in any case."""
    try:
        await client.get_workflow_handle(probe_id(key)).terminate(reason="the doctor has left")
    except RPCError:
        return

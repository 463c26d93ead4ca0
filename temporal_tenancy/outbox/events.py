"""Dealing with an event once, however often it is delivered."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.scope import current_scope, current_tenant
from temporal_tenancy.core.scoped_value import ScopedValue

# As SQL: by way of the ORM it takes twice as long as the database does.
_NOTE: Final = text("""
    insert into processed_events (tenant_id, consumer, event_id)
    values (:tenant, :consumer, :event_id)
    on conflict do nothing
    returning event_id
""")
_message: Final[ScopedValue[str]] = ScopedValue("temporal_tenancy_message", "the event's id")


async def once(session: AsyncSession, consumer: str, event_id: str) -> bool:
    """Notes that `consumer` deals with `event_id`; returns False where it has done so before.

    `session` is the `tenant_session()` of the effect: both are committed, or neither. While another
    transaction has noted the same and not ended, this waits for it. Two tenants' events of one id
    are two events. They are told apart by `consumer`, a name that stays, such as the job's.

    Raises `ScopeMissing` where no tenant's code calls it.
    """
    values = {"tenant": current_tenant(), "consumer": consumer, "event_id": event_id}
    return await session.scalar(_NOTE, values) is not None


def current_event_id() -> str:
    """What identifies the event that the running activity deals with: its message's key.

    That is the key of the workflow id, or of the one message among several that a workflow works
    off. It stays the same over retries and replays. Raises `ScopeMissing` outside an activity
    and where the work on the event has ended.
    """
    key = _message.get()
    if key is not None:
        return key
    current_scope()  # raises behind the activity's end
    if not activity.in_activity() or (workflow_id := activity.info().workflow_id) is None:
        raise ScopeMissing("there is no event here: this is for the activities of a job.")
    return WorkflowId.parse(workflow_id).key


def use_event_id(key: str) -> AbstractContextManager[str]:
    """Makes `key` the one that `current_event_id()` returns inside the block."""
    return _message.provide(key)

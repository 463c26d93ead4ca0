"""Processes an event once, however often it is delivered."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.scope import current_scope, current_tenant
from temporal_tenancy.core.scoped_value import ScopedValue
from temporal_tenancy.outbox.awaiting import in_block
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.raw_session import RawSession

# Plain SQL: through the ORM the call takes twice as long as the database itself.
_RECORD: Final = library_text("""
    insert into tenancy.processed_events (tenant_id, consumer, event_id)
    values (:tenant, :consumer, :event_id)
    on conflict do nothing
    returning event_id
""")
_message: Final[ScopedValue[str]] = ScopedValue("temporal_tenancy_message", "the event's id")


def once(
    session: AsyncSession | RawSession, consumer: str, event_id: str
) -> Coroutine[Any, Any, bool]:
    """Records that `consumer` processes `event_id`, in the transaction of the effect.

    Waits while another open transaction has recorded the same event. Two tenants' events with the
    same id are two events.

    Args:
        session: the `tenant_session()` of the effect, so that both commit or neither does.
        consumer: a stable name of what processes the event, such as the job's. Each consumer
            processes an event once.
        event_id: identifies the event within the tenant, such as `current_event_id()`.

    Returns:
        Whether the event is new to this consumer; False means that the effect has happened already.

    Raises:
        ScopeMissing: the caller is not in a tenant's scope.
        NotAwaited: raised at the end of the session if the result was not awaited in it.
    """
    return in_block(session, record_once(session, consumer, event_id), "once(…)")


async def record_once(session: AsyncSession | RawSession, consumer: str, event_id: str) -> bool:
    """Records an event; see `once`."""
    values = {"tenant": current_tenant(), "consumer": consumer, "event_id": event_id}
    return await session.scalar(_RECORD, values) is not None


def current_event_id() -> str:
    """Returns the id of the event that the running activity processes: its message's key.

    This is the key in the workflow id or, where one workflow handles several messages, the key of
    the current message. It stays the same over retries and replays.

    Raises:
        ScopeMissing: the caller is not in an activity of a workflow, or the work on the event has
            ended.
    """
    key = _message.get()
    if key is not None:
        return key
    current_scope()  # raises once the activity has ended
    if not activity.in_activity() or (workflow_id := activity.info().workflow_id) is None:
        raise ScopeMissing("there is no event here. Call this in an activity of a job.")
    return WorkflowId.parse(workflow_id).key


def use_event_id(key: str) -> AbstractContextManager[str]:
    """Makes `current_event_id()` return `key` inside the block."""
    return _message.provide(key)

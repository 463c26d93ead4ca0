"""Processes an event once, however often it is delivered."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.scope import current_scope, current_tenant
from temporal_tenancy.core.scoped_value import ScopedValue
from temporal_tenancy.core.words import number
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
# In the order of the ids, so that two batches with the same events do not wait for each other.
_RECORD_EACH: Final = library_text("""
    insert into tenancy.processed_events (tenant_id, consumer, event_id)
    select :tenant, :consumer, event_id
    from unnest(cast(:event_ids as text[])) as given (event_id)
    order by event_id
    on conflict do nothing
    returning event_id
""")
_messages: Final[ScopedValue[Sequence[str]]] = ScopedValue(
    "temporal_tenancy_message", "the event's id"
)


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


def once_each(
    session: AsyncSession, consumer: str, event_ids: Sequence[str]
) -> Coroutine[Any, Any, set[str]]:
    """Records several events as `once` does, in one statement.

    Args:
        session: the `tenant_session()` of the effects.
        consumer: a stable name of what processes the events.
        event_ids: identify the events within the tenant, such as `current_event_ids()`.

    Returns:
        The ids of the events that are new to this consumer.

    Raises:
        ScopeMissing: the caller is not in a tenant's scope.
        NotAwaited: raised at the end of the session if the result was not awaited in it.
    """
    return in_block(session, _record_each(session, consumer, event_ids), "once_each(…)")


async def _record_each(session: AsyncSession, consumer: str, event_ids: Sequence[str]) -> set[str]:
    values = {"tenant": current_tenant(), "consumer": consumer, "event_ids": list(event_ids)}
    return set(await session.scalars(_RECORD_EACH, values))


def current_event_id() -> str:
    """Returns the id of the event that the running activity processes: its message's key.

    This is the key in the workflow id or, where one workflow handles several messages, the key of
    the current message. It stays the same over retries and replays.

    Raises:
        ScopeMissing: the caller is not in an activity of a workflow, the work on the event has
            ended, or it is work on several events together.
    """
    keys = current_event_ids()
    if len(keys) != 1:
        raise ScopeMissing(
            f"this is the work of {number(len(keys), 'event')} together. Use current_event_ids()."
        )
    return keys[0]


def current_event_ids() -> list[str]:
    """Returns the ids of the events that the running code processes together.

    They are in the order of the inputs that a handler of `Coalesce(together=True)` takes. Anywhere
    else there is one: `current_event_id()`.

    Raises:
        ScopeMissing: the caller is not in an activity of a workflow, or the work on the events has
            ended.
    """
    keys = _messages.get()
    if keys is not None:
        return list(keys)
    current_scope()  # raises once the activity has ended
    if not activity.in_activity() or (workflow_id := activity.info().workflow_id) is None:
        raise ScopeMissing("there is no event here. Call this in an activity of a job.")
    return [WorkflowId.parse(workflow_id).key]


def use_event_ids(keys: Sequence[str]) -> AbstractContextManager[Sequence[str]]:
    """Makes `current_event_ids()` return `keys` inside the block."""
    return _messages.provide(keys)

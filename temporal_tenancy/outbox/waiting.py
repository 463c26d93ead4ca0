"""Cancels and reschedules waiting messages that no relay has claimed."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.admission import CHANNEL
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.outbox.awaiting import in_block
from temporal_tenancy.outbox.enqueueing import require_time
from temporal_tenancy.outbox.tables import IS_DEAD, WAITING, MessageStatus
from temporal_tenancy.postgres.database import current_tenant_session
from temporal_tenancy.postgres.library_text import library_text

# A claim skips rows locked here. If a claim holds the lock, this waits and reads the row again.
_LOCK: Final = """
    select id, job, key, status, scheduled_at, dequeued_at from tenancy.outbox_messages
    where tenant_id = :tenant and
"""
_LOCK_BY_ID: Final = library_text(f"{_LOCK} id = :id for update")
# Dead letters may have the same key as the waiting message.
_LOCK_BY_KEY: Final = library_text(f"""
    {_LOCK} job = :job and key = :key
    order by {IS_DEAD}, id desc limit 1 for update
""")
_DELETE: Final = library_text(
    "delete from tenancy.outbox_messages where tenant_id = :tenant and id = :id"
)
_MOVE: Final = library_text(f"""
    with moved as (
        update tenancy.outbox_messages set scheduled_at = :at where tenant_id = :tenant and id = :id
        returning id
    )
    select pg_notify('{CHANNEL}', '') from moved
""")


class MessageUnknown(TenancyError):
    """The tenant has no such message, or no longer has it."""


class MessageTaken(TenancyError):
    """The message no longer waits: a relay has claimed it, or it is completed or dead."""


@dataclass(frozen=True)
class ByKey:
    """Identifies a message by job and key; a message that is not a dead letter comes first."""

    job: str  # its name
    key: str  # the last part of the workflow id


@dataclass(frozen=True)
class Waiting:
    """A waiting message, or one that waited until it was cancelled."""

    id: UUID
    job: str
    key: str
    scheduled_at: datetime  # aware; the earliest start


def cancel(which: UUID | ByKey) -> Coroutine[Any, Any, Waiting]:
    """Deletes a waiting message of the current tenant, in the open `tenant_session()`.

    The key becomes free and can be requested again with any input.

    Args:
        which: the message's id, or its job and key.

    Returns:
        The message as it was.

    Raises:
        ScopeMissing: no `tenant_session()` is open.
        MessageUnknown: the tenant has no such message, or no longer has it.
        MessageTaken: a relay has claimed the message, or it is completed or a dead letter.
        NotAwaited: raised at the end of the session if the result was not awaited in it.
    """
    session = current_tenant_session()
    return in_block(session, _cancel(session, which), "cancel(…)")


async def _cancel(session: AsyncSession, which: UUID | ByKey) -> Waiting:
    message = await _lock(session, which)
    await session.execute(_DELETE, {"tenant": current_tenant(), "id": message.id})
    return message


def reschedule(which: UUID | ByKey, at: datetime) -> Coroutine[Any, Any, Waiting]:
    """Changes the earliest start of a waiting message, in the open `tenant_session()`.

    For a message that waits for a retry, this changes the time of the retry.

    Args:
        which: the message's id, or its job and key.
        at: the new earliest start, an aware datetime from 1970 to 9998.

    Returns:
        The message with its new time.

    Raises:
        InvalidPayload: `at` has no UTC offset or is out of range.
        ScopeMissing, MessageUnknown, MessageTaken, NotAwaited: as for `cancel`.
    """
    session = current_tenant_session()
    return in_block(session, _reschedule(session, which, at), "reschedule(…)")


async def _reschedule(session: AsyncSession, which: UUID | ByKey, at: datetime) -> Waiting:
    require_time("the message", at)
    message = await _lock(session, which)
    await session.execute(_MOVE, {"tenant": current_tenant(), "id": message.id, "at": at})
    return Waiting(message.id, message.job, message.key, at)


async def _lock(session: AsyncSession, which: UUID | ByKey) -> Waiting:
    tenant = current_tenant()
    if isinstance(which, ByKey):
        values = {"tenant": tenant, "job": which.job, "key": which.key}
        row = (await session.execute(_LOCK_BY_KEY, values)).one_or_none()
    else:
        row = (await session.execute(_LOCK_BY_ID, {"tenant": tenant, "id": which})).one_or_none()
    if row is None:
        raise MessageUnknown(
            f"{tenant} has no such message: it was started some time ago, cancelled, or never "
            "requested."
        )
    if row.status not in WAITING:
        raise MessageTaken(_why_taken(row))
    return Waiting(row.id, row.job, row.key, row.scheduled_at)


def _why_taken(row: Row[Any]) -> str:  # columns of several types
    """Returns the sentence that says why a message no longer waits."""
    if row.status == MessageStatus.PROCESSING:
        when = f" at {row.dequeued_at:%Y-%m-%d %H:%M:%S %Z}" if row.dequeued_at else ""
        return f"a relay has already claimed message {row.id}{when} and is starting its job."
    if row.status == MessageStatus.COMPLETED:
        return f"the job of message {row.id} has already started."
    return (
        f"message {row.id} has already failed permanently. It is a dead letter: replay or discard "
        "it."
    )

"""Taking back or moving messages that wait, as long as no relay has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.admission import CHANNEL
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.outbox.enqueueing import require_time
from temporal_tenancy.outbox.models import WAITING, MessageStatus
from temporal_tenancy.postgres.database import current_tenant_session

# A claim passes over what is locked here, and what it has locked is waited for and read anew.
_LOCK: Final = """
    select id, job, key, status, scheduled_at, dequeued_at from outbox_messages
    where tenant_id = :tenant and
"""
_LOCK_BY_ID: Final = text(f"{_LOCK} id = :id for update")
# What has failed for good may have had the key before.
_LOCK_BY_KEY: Final = text(f"""
    {_LOCK} job = :job and key = :key
    order by status = 'dead_letter', id desc limit 1 for update
""")
_DELETE: Final = text("delete from outbox_messages where tenant_id = :tenant and id = :id")
_MOVE: Final = text(f"""
    with moved as (
        update outbox_messages set scheduled_at = :at where tenant_id = :tenant and id = :id
        returning id
    )
    select pg_notify('{CHANNEL}', '') from moved
""")


class MessageUnknown(TenancyError):
    """The tenant has no such message."""


class MessageTaken(TenancyError):
    """The message does not wait any more."""


@dataclass(frozen=True)
class ByKey:
    """The message that has a job's key, the one that waits before one that is dead."""

    job: str
    key: str


@dataclass(frozen=True)
class Waiting:
    """A message that waits, or did until it was cancelled."""

    id: UUID
    job: str
    key: str
    scheduled_at: datetime  # not before


async def cancel(which: UUID | ByKey) -> Waiting:
    """Deletes a waiting message of the current tenant's, in the open `tenant_session()`.

    `which` is the message's id, or its job and key. Returns what it was. Nothing is left of it: its
    key is free, and may be asked for with any input.

    Raises:
        ScopeMissing: no `tenant_session()` is open.
        MessageUnknown: there is none, or there is none any more.
        MessageTaken: a relay has taken it, or it is done with.
    """
    session = current_tenant_session()
    message = await _lock(session, which)
    await session.execute(_DELETE, {"tenant": current_tenant(), "id": message.id})
    return message


async def reschedule(which: UUID | ByKey, at: datetime) -> Waiting:
    """Lets a waiting message start not before `at` (aware), also one that is to be tried again.

    Raises:
        InvalidPayload: `at` has no offset, or is no time from 1970 on.
        ScopeMissing, MessageUnknown, MessageTaken: as `cancel`.
    """
    session = current_tenant_session()
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
            f"{tenant} has no such message: it was started some time ago, or cancelled, or never "
            "asked for."
        )
    if row.status not in WAITING:
        raise MessageTaken(_what_came_first(row))
    return Waiting(row.id, row.job, row.key, row.scheduled_at)


def _what_came_first(row: Row[Any]) -> str:
    """Why a message does not wait; `row` has columns of several types."""
    if row.status == MessageStatus.PROCESSING:
        taken = f" at {row.dequeued_at:%Y-%m-%d %H:%M:%S %Z}" if row.dequeued_at else ""
        return f"a relay came first: it took the message {row.id}{taken}, and is starting its job."
    if row.status == MessageStatus.COMPLETED:
        return f"the message {row.id} came first: its job has been started."
    return (
        f"the message {row.id} failed for good first. It is a dead letter, which is replayed or "
        "discarded."
    )

"""Reads messages without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.outbox.tables import IS_PROCESSING, IS_WAITING, MessageStatus, OutboxMessage
from temporal_tenancy.postgres.library_text import library_text

_BACKLOG: Final = library_text(f"""
    select
        tenant_id,
        count(*) filter (where status = '{MessageStatus.PENDING}') as pending,
        count(*) filter (where status = '{MessageStatus.FAILED}') as failed,
        count(*) filter (where {IS_PROCESSING}) as processing,
        min(scheduled_at) filter (where {IS_WAITING} and scheduled_at <= now())
            as due_since,
        min(scheduled_at) filter (where {IS_WAITING} and scheduled_at > now())
            as next_at
    from tenancy.outbox_messages
    where {IS_WAITING} or {IS_PROCESSING}
    group by tenant_id
    order by tenant_id
""")


_WAITING: Final = library_text(f"""
    select tenant_id, id, job, key, status, scheduled_at
    from tenancy.outbox_messages
    where {IS_WAITING} and tenant_id <> '{PLATFORM}'
      and (cast(:tenant as text) is null or tenant_id = :tenant)
    order by scheduled_at, id
    limit :limit
""")


@dataclass(frozen=True)
class WaitingMessage:
    """A message that no relay has taken yet, or that waits for another attempt."""

    tenant_id: str
    id: UUID
    job: str
    key: str
    status: str  # `pending` or `failed`
    scheduled_at: datetime  # aware; the earliest start


@dataclass(frozen=True)
class Backlog:
    """How many messages a tenant has waiting or in progress."""

    tenant_id: str
    pending: int  # messages
    failed: int  # messages that wait for another attempt
    processing: int  # messages
    due_since: datetime | None  # aware; of the oldest due message, or None if none is due
    next_at: datetime | None = None  # aware; when the next message is due that is not, or None


async def find_message(session: AsyncSession, job: str, key: str) -> OutboxMessage | None:
    """Returns the newest message with a job and key, or None if there is none.

    A completed message remains for about a minute (`RelayOptions.keep_completed`), until a relay
    deletes it.

    Args:
        session: the tenant's session.
        job: the job's name.
        key: the last part of the workflow id.
    """
    query = (
        select(OutboxMessage)
        .where(OutboxMessage.job == job, OutboxMessage.key == key)
        .order_by(OutboxMessage.id.desc())
        .limit(1)
    )
    return await session.scalar(query)


async def backlogs(session: AsyncSession) -> Sequence[Backlog]:
    """Returns the backlog of each tenant that has messages waiting or in progress, by tenant id.

    Reads all these messages, so its cost grows with their number.

    Args:
        session: a `platform_session()` of the relay's role.
    """
    found = [Backlog(**row._mapping) for row in await session.execute(_BACKLOG)]
    return [backlog for backlog in found if backlog.tenant_id != PLATFORM]  # a doctor's probes


async def waiting_messages(
    session: AsyncSession, *, tenant_id: str | None = None, limit: int
) -> Sequence[WaitingMessage]:
    """Returns the first `limit` messages that wait, by due time; of one tenant or of all.

    Args:
        session: a `platform_session()` of the relay's role.
        tenant_id: None means all tenants.
        limit: how many at most.
    """
    values = {"tenant": tenant_id, "limit": limit}
    return [WaitingMessage(**row._mapping) for row in await session.execute(_WAITING, values)]

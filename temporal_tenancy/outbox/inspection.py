"""Reads messages without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

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

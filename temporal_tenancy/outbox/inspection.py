"""Looking at messages without touching them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.outbox.models import OutboxMessage

_BACKLOG: Final = text("""
    select
        tenant_id,
        count(*) filter (where status = 'pending') as pending,
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'processing') as processing,
        min(scheduled_at) filter (where status in ('pending', 'failed') and scheduled_at <= now())
            as due_since
    from outbox_messages
    where status in ('pending', 'failed', 'processing')
    group by tenant_id
    order by tenant_id
""")


@dataclass(frozen=True)
class Backlog:
    """What a tenant has waiting, in numbers of messages."""

    tenant_id: str
    pending: int
    failed: int  # and to be tried again
    processing: int
    due_since: datetime | None  # the oldest that could be released; None: there is none


async def find_message(session: AsyncSession, job: str, key: str) -> OutboxMessage | None:
    """The latest message of that job and key, or None; `session` is the tenant's.

    What was completed is there for a minute or so, until a relay deletes it.
    """
    query = (
        select(OutboxMessage)
        .where(OutboxMessage.job == job, OutboxMessage.key == key)
        .order_by(OutboxMessage.id.desc())
        .limit(1)
    )
    return await session.scalar(query)


async def backlogs(session: AsyncSession) -> Sequence[Backlog]:
    """What every tenant has waiting, by tenant id; those with nothing are left out.

    `session` is a `platform_session()` of the relay's role. It reads all that waits.
    """
    return [Backlog(**row._mapping) for row in await session.execute(_BACKLOG)]

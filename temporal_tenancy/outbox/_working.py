"""SQL for the messages that one workflow handles, run as the tenant's role on its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.payloads import UNKNOWN
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.outbox.marks import Holder, completing, failing
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.tables import IS_PROCESSING
from temporal_tenancy.outbox.transitions import BEGUN_AGAIN
from temporal_tenancy.postgres.library_text import library_text

# A message that someone else has claimed since is no longer this workflow's.
_IS_OWN: Final = f"m.workflow_id = :workflow_id and m.{IS_PROCESSING}"

# One descent of the index for each message. The conditions are outside, or the planner might take
# an index of all that is in work, and read it for each message.
_LOAD: Final = library_text(f"""
    select
        m.tenant_id, m.id, m.job, m.key, m.priority, m.attempts, m.correlation_id, m.workflow_id
    from unnest(cast(:ids as uuid[])) as wanted (id)
    cross join lateral (
        select * from tenancy.outbox_messages as m where m.id = wanted.id offset 0
    ) as m
    where {_IS_OWN}
    order by m.id
""")
_BEGIN_AGAIN: Final = library_text(f"""
    update tenancy.outbox_messages as m
    set {BEGUN_AGAIN}
    where id = :id and {_IS_OWN}
    returning attempts
""")
_COMPLETE: Final = completing(_IS_OWN)
_FAIL: Final = failing(_IS_OWN)


def holder(workflow_id: str) -> Holder:
    """Returns the workflow as the holder of its messages."""
    return Holder(_COMPLETE, _FAIL, {"workflow_id": workflow_id})


async def load(session: AsyncSession, ids: Sequence[UUID], workflow_id: str) -> list[Message]:
    """Returns those of the messages that are still this workflow's, the oldest first."""
    values = {"ids": list(ids), "workflow_id": workflow_id}
    rows = (await session.execute(_LOAD, values)).all()
    texts = await payload_texts(session, [(row.tenant_id, row.id) for row in rows])
    return [
        Message(**row._mapping, payload=texts.get((row.tenant_id, row.id), UNKNOWN)) for row in rows
    ]


async def begin_again(session: AsyncSession, message: Message, workflow_id: str) -> Message:
    """Counts another attempt before it begins; returns the message with the new count."""
    values = {"id": message.id, "workflow_id": workflow_id}
    attempts = await session.scalar(_BEGIN_AGAIN, values)
    return message if attempts is None else replace(message, attempts=attempts)

"""The messages that one workflow works off, in SQL: as the tenant's role, and so its own alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.payloads import UNKNOWN
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.outbox.transitions import BEGUN_AGAIN, COMPLETED, FAILED

# A message that another has got hold of is no longer this workflow's.
_OURS: Final = "m.status = 'processing' and m.workflow_id = :workflow_id"

_LOAD: Final = text(f"""
    select id, job, key, attempts
    from outbox_messages as m
    where id = any(cast(:ids as uuid[])) and {_OURS}
    order by id
""")
_BEGIN_AGAIN: Final = text(f"""
    update outbox_messages as m
    set {BEGUN_AGAIN}
    where id = :id and {_OURS}
    returning attempts
""")
_COMPLETE: Final = text(f"""
    update outbox_messages as m
    set {COMPLETED}
    where id = any(cast(:ids as uuid[])) and {_OURS}
""")
_FAIL: Final = text(f"""
    update outbox_messages as m
    set {FAILED}
    from unnest(
        cast(:ids as uuid[]), cast(:waits as interval[]),
        cast(:error_types as text[]), cast(:error_messages as text[])
    ) as failed (id, wait, error_type, error_message)
    where m.id = failed.id and {_OURS}
    returning m.id
""")


@dataclass(frozen=True)
class Working:
    """A message that is being worked off."""

    id: UUID
    job: str
    key: str
    payload: str  # JSON, as the database writes it; it may be none that can be read
    attempts: int  # this one too


@dataclass(frozen=True)
class Outcome:
    """What became of a message."""

    message: Working
    error_type: str | None = None  # None: its work is done
    error_message: str = ""
    wait: timedelta | None = None  # until the next attempt; None after a failure: there is none

    @property
    def is_dead(self) -> bool:
        """Whether it has failed for good."""
        return self.error_type is not None and self.wait is None


async def load(session: AsyncSession, ids: Sequence[UUID], workflow_id: str) -> list[Working]:
    """Those of the messages that are still this workflow's to work off, the oldest first."""
    values = {"ids": list(ids), "workflow_id": workflow_id}
    rows = (await session.execute(_LOAD, values)).all()
    tenant = current_tenant()
    texts = await payload_texts(session, [(tenant, row.id) for row in rows])
    return [Working(**row._mapping, payload=texts.get((tenant, row.id), UNKNOWN)) for row in rows]


async def begin_again(session: AsyncSession, message: Working, workflow_id: str) -> Working:
    """Counts another attempt before it begins."""
    values = {"id": message.id, "workflow_id": workflow_id}
    attempts = await session.scalar(_BEGIN_AGAIN, values)
    return message if attempts is None else replace(message, attempts=attempts)


async def mark(session: AsyncSession, outcomes: Sequence[Outcome], workflow_id: str) -> None:
    """Writes what became of messages; those that have failed for good become dead letters."""
    done = [outcome.message.id for outcome in outcomes if outcome.error_type is None]
    if done:
        await session.execute(_COMPLETE, {"ids": done, "workflow_id": workflow_id})
    failed = [outcome for outcome in outcomes if outcome.error_type is not None]
    if failed:
        values = {
            "ids": [outcome.message.id for outcome in failed],
            "waits": [outcome.wait for outcome in failed],
            "error_types": [outcome.error_type for outcome in failed],
            "error_messages": [outcome.error_message for outcome in failed],
            "workflow_id": workflow_id,
        }
        marked = {row.id for row in await session.execute(_FAIL, values)}
        dead = [one for one in failed if one.is_dead and one.message.id in marked]
        await put_letters(session, [_letter(outcome) for outcome in dead])


def _letter(outcome: Outcome) -> Letter:
    message = outcome.message
    return Letter(
        workflow_id=str(WorkflowId(current_tenant(), message.job, message.key)),
        source=Source.MESSAGE,
        error_type=outcome.error_type or "",
        message=outcome.error_message,
        attempts=message.attempts,
        message_id=message.id,
    )

"""Writing down what has failed for good: once, whoever sees it, and how often."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from temporal_tenancy.core.failures import storable
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.payloads import fits_a_message
from temporal_tenancy.dead_letters.fingerprints import fingerprint

Payload = Mapping[str, Any]  # a job's input as JSON, without the tenant


class Source(StrEnum):
    """Where a job has failed."""

    RELAY = "relay"  # its workflow was never started
    FAN_OUT = "fan_out"  # the same, by a fan-out
    MESSAGE = "message"  # it was one of several messages in a workflow
    WORKFLOW = "workflow"  # its own workflow failed, timed out or was terminated


@dataclass(frozen=True)
class Letter:
    """A job of a tenant's that has failed for good."""

    workflow_id: str  # {tenant}/{job}/{key}, whether or not it was ever started
    source: Source
    error_type: str
    message: str  # the failure's sentence, without values of the input
    attempts: int
    run_id: str | None = None  # of the workflow in which it failed; None: there was none
    message_id: UUID | None = None  # of the outbox message that is its input, if one is
    failed_at: datetime | None = None  # aware; None: now


@dataclass(frozen=True)
class Put:
    """A dead letter that was written: it is new, or has been opened anew."""

    tenant_id: str
    id: UUID
    workflow_id: str
    message_id: UUID | None


# A failure that is known already changes nothing, so that it may be seen by several and more than
# once, and what a person has decided of it stays. A later one of the same id opens it anew.
_PUT: Final = text("""
    insert into dead_letters as letter (
        tenant_id, job, source, workflow_id, run_id, message_id, error_type, message, fingerprint,
        attempts, failed_at
    )
    select distinct on (tenant_id, workflow_id)
        tenant_id, job, source, workflow_id, run_id, message_id, error_type, message, fingerprint,
        attempts, coalesce(failed_at, now())
    from jsonb_to_recordset(cast(:letters as jsonb)) as given (
        tenant_id text, job text, source text, workflow_id text, run_id text, message_id uuid,
        error_type text, message text, fingerprint text, attempts int, failed_at timestamptz
    )
    -- One order for all who write, so that none waits for another in a circle.
    order by tenant_id, workflow_id, failed_at desc nulls first
    on conflict (tenant_id, workflow_id) do update
       set source = excluded.source,
           run_id = excluded.run_id,
           message_id = coalesce(excluded.message_id, letter.message_id),
           error_type = excluded.error_type,
           message = excluded.message,
           fingerprint = excluded.fingerprint,
           attempts = excluded.attempts,
           failed_at = excluded.failed_at,
           recorded_at = now(),
           status = 'open',
           told_at = null
     where excluded.failed_at > letter.failed_at
       and (
           excluded.run_id is distinct from letter.run_id
           or excluded.run_id is null and excluded.message_id is distinct from letter.message_id
       )
    returning letter.tenant_id, letter.id, letter.workflow_id, letter.message_id
""")

# In the message that the letter has already, or else in a new one. Either is told by its own id,
# which is the table's to make.
_KEEP: Final = text("""
    with given as (
        select * from jsonb_to_record(cast(:input as jsonb)) as given (
            tenant_id text, id uuid, job text, key text, payload jsonb, attempts int,
            error_type text, error_message text
        )
    ),
    kept as (
        update outbox_messages as message
           set payload = given.payload,
               attempts = given.attempts,
               error_type = given.error_type,
               error_message = given.error_message
          from given
         where message.tenant_id = given.tenant_id and message.id = given.id
           and message.status = 'dead_letter'
        returning message.id
    ),
    added as (
        insert into outbox_messages (
            tenant_id, job, key, payload, status, attempts, error_type, error_message
        )
        select tenant_id, job, key, payload, 'dead_letter', attempts, error_type, error_message
          from given
         where not exists (select from kept)
        returning id
    )
    select id from kept union all select id from added
""")
_REFER: Final = text("""
    update dead_letters set message_id = :message_id where tenant_id = :tenant and id = :id
""")


async def put_letters(
    session: AsyncSession | AsyncConnection, letters: Sequence[Letter]
) -> Sequence[Put]:
    """Writes dead letters in the transaction of `session`; returns those that were not known.

    A letter is one a workflow id. A failure that was written before, or that is older than the one
    that was, changes nothing; a later one opens the letter anew. `session` is a tenant's, and the
    letters then all its own, or the relay's.
    """
    if not letters:
        return []
    found = await session.execute(_PUT, {"letters": json.dumps([_row(each) for each in letters])})
    return [Put(**row._mapping) for row in found]


async def record(session: AsyncSession, letter: Letter, payload: Payload | None) -> bool:
    """Writes the dead letter of a workflow of the session's tenant, and keeps its input.

    The input outlives Temporal's own memory of it, as an outbox message that no relay takes. One
    that no message may hold is not kept. Returns whether the failure was not known.
    """
    put = await put_letters(session, [letter])
    if not put:
        return False
    if payload is not None and fits_a_message(payload):
        [new] = put
        parts = WorkflowId.parse(letter.workflow_id)
        kept = {
            "tenant_id": new.tenant_id,
            "id": None if new.message_id is None else str(new.message_id),
            "job": parts.job,
            "key": parts.key,
            "payload": payload,
            "attempts": letter.attempts,
            "error_type": storable(letter.error_type),
            "error_message": storable(letter.message),
        }
        message_id = await session.scalar(_KEEP, {"input": json.dumps(kept)})
        if message_id != new.message_id:
            values = {"message_id": message_id, "tenant": new.tenant_id, "id": new.id}
            await session.execute(_REFER, values)
    return True


def _row(letter: Letter) -> dict[str, Any]:  # JSON
    parts = WorkflowId.parse(letter.workflow_id)
    kind = storable(letter.error_type)
    message = storable(letter.message)
    return {
        "tenant_id": parts.owner,
        "job": parts.job,
        "source": letter.source.value,
        "workflow_id": letter.workflow_id,
        "run_id": letter.run_id,
        "message_id": None if letter.message_id is None else str(letter.message_id),
        "error_type": kind,
        "message": message,
        "fingerprint": fingerprint(parts.job, kind, message, tenant_id=parts.owner),
        "attempts": letter.attempts,
        "failed_at": None if letter.failed_at is None else letter.failed_at.isoformat(),
    }

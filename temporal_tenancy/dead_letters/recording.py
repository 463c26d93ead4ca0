"""Records permanent failures as dead letters: one for each, however often it is reported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from temporal_tenancy.core.failures import storable
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.payloads import fits_a_message
from temporal_tenancy.dead_letters.fingerprints import fingerprint
from temporal_tenancy.postgres.control_session import control_of, control_session
from temporal_tenancy.postgres.library_text import library_text

Payload = Mapping[str, Any]  # a job's input as JSON, without the tenant


class Source(StrEnum):
    """Where a job failed."""

    RELAY = "relay"  # the relay could not start its workflow
    FAN_OUT = "fan_out"  # a fan-out could not start its workflow
    MESSAGE = "message"  # in a workflow that handles several messages
    WORKFLOW = "workflow"  # in its own workflow, which failed, timed out or was terminated


@dataclass(frozen=True)
class Letter:
    """A tenant's job that has failed permanently."""

    workflow_id: str  # {tenant}/{job}/{key}, even if it was never started
    source: Source
    error_type: str
    message: str  # one sentence, without values from the input
    attempts: int
    run_id: str | None = None  # of the workflow that failed; None: no workflow ran
    message_id: UUID | None = None  # of the outbox message that stores its input, if any
    failed_at: datetime | None = None  # aware; None: now


@dataclass(frozen=True)
class Put:
    """A dead letter that was added or reopened."""

    tenant_id: str
    id: UUID
    workflow_id: str
    message_id: UUID | None


# A failure that is already recorded changes nothing, so several processes may report it, and a
# person's decision about it stays. A later failure of the same workflow id reopens the letter.
_PUT: Final = library_text("""
    insert into tenancy.dead_letters as letter (
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
    -- All writers use the same order, so that they cannot deadlock.
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

# Stores the input in the message that the letter already refers to, or else in one whose id is made
# from the letter's: those who write at once write the same message. Returns its id.
_KEEP: Final = library_text("""
    with given as (
        select * from jsonb_to_record(cast(:input as jsonb)) as given (
            tenant_id text, id uuid, own_id uuid, job text, key text, payload jsonb, attempts int,
            error_type text, error_message text
        )
    ),
    kept as (
        update tenancy.outbox_messages as message
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
        insert into tenancy.outbox_messages as message (
            tenant_id, id, job, key, payload, status, attempts, error_type, error_message
        )
        select tenant_id, own_id, job, key, payload, 'dead_letter', attempts, error_type,
            error_message
          from given
         where not exists (select from kept)
        on conflict (tenant_id, id) do update
           set payload = excluded.payload,
               attempts = excluded.attempts,
               error_type = excluded.error_type,
               error_message = excluded.error_message
         where message.status = 'dead_letter'
        returning message.id
    )
    select id from kept union all select id from added
""")
# Not if another run's failure has reopened the letter: that run's input belongs there.
_REFER: Final = library_text("""
    update tenancy.dead_letters
       set message_id = :message_id
     where tenant_id = :tenant and id = :id and run_id is not distinct from cast(:run_id as text)
    returning id
""")

_RECORDED: Final = library_text("""
    select tenant_id, id, workflow_id, message_id
    from tenancy.dead_letters
    where tenant_id = :tenant and workflow_id = :workflow_id
        and run_id is not distinct from cast(:run_id as text) and status = 'open'
""")


async def put_letters(
    session: AsyncSession | AsyncConnection, letters: Sequence[Letter]
) -> Sequence[Put]:
    """Records dead letters in the transaction of `session`, one for each workflow id.

    A failure that is already recorded, or older than the recorded one, changes nothing. A later
    failure reopens the letter. If `session` is in a database of the tenant's own, the letters are
    committed in the control plane at once: before what else `session` does, such as the marks of
    their messages.

    Args:
        session: of the platform or the relay, or of the tenant that all letters belong to.
        letters: what to record; of two for a workflow id, the later failure counts.

    Returns:
        The letters that were added or reopened.

    Raises:
        TenantMismatch: a letter's workflow id is not `{tenant}/{job}/{key}`, or another tenant's
            than the session's.
    """
    if not letters:
        return []
    rows = [_row(letter) for letter in letters]
    owners = {str(row["tenant_id"]) for row in rows}
    async with control_session(session, "record dead letters", owners=owners) as control:
        put = await control.execute(_PUT, {"letters": json.dumps(rows)})
        return [Put(**row._mapping) for row in put]


async def record(session: AsyncSession, letter: Letter, payload: Payload | None) -> bool:
    """Records the dead letter of a workflow and stores the workflow's input.

    The input is stored as an outbox message that no relay claims, so it outlives Temporal's
    retention. An input that does not fit a message is not stored.

    Args:
        session: of the tenant that the workflow belongs to.
        letter: what to record.
        payload: the input as JSON, without the tenant; None stores none.

    Returns:
        Whether the letter was added or reopened; False if the failure was already recorded.

    Raises:
        TenantMismatch: the letter's workflow id is not `{tenant}/{job}/{key}`.
    """
    put = await put_letters(session, [letter])
    known = put[0] if put else await _recorded_apart(session, letter)
    if known is None:
        return False
    if payload is not None and fits_a_message(payload):
        await _keep(session, known, letter, payload)
    return bool(put)


async def _keep(session: AsyncSession, known: Put, letter: Letter, payload: Payload) -> None:
    """Stores the input of a letter's job, and says in the letter where it is.

    In a database of the tenant's own, another run's failure may reopen the letter meanwhile. The
    message is locked before the letter is looked at again: so either that run's input waits for
    this one to be committed, and replaces it, or this one is taken back.
    """
    parts = WorkflowId.parse(letter.workflow_id)
    kept = {
        "tenant_id": known.tenant_id,
        "id": None if known.message_id is None else str(known.message_id),
        "own_id": str(_message_of(known.id)),
        "job": parts.job,
        "key": parts.key,
        "payload": payload,
        "attempts": letter.attempts,
        "error_type": storable(letter.error_type),
        "error_message": storable(letter.message),
    }
    async with session.begin_nested() as savepoint:
        message_id = await session.scalar(_KEEP, {"input": json.dumps(kept)})
        # None: the tenant has made the message a request.
        if message_id is None or not await _refer(session, known, letter, message_id):
            await savepoint.rollback()


async def _refer(session: AsyncSession, known: Put, letter: Letter, message_id: UUID) -> bool:
    """Says in a letter where its input is; returns False if it is another run's letter by now."""
    values = {
        "message_id": message_id,
        "tenant": known.tenant_id,
        "id": known.id,
        "run_id": letter.run_id,
    }
    reason, owners = "say where an input is kept", [known.tenant_id]
    async with control_session(session, reason, owners=owners) as control:
        return await control.scalar(_REFER, values) is not None


def _message_of(letter_id: UUID) -> UUID:
    """Returns the id of the message that keeps a letter's input.

    It is the letter's own, made a UUIDv7 whose time fits a date if it is none: an earlier release
    let tenants choose it.
    """
    version, late = 0xF << 76, 1 << 127
    return UUID(int=letter_id.int & ~version & ~late | 7 << 76)


async def _recorded_apart(session: AsyncSession, letter: Letter) -> Put | None:
    """Returns the letter that an earlier try has committed apart, maybe without its input.

    None where the letter and its input are one transaction, or if a later failure is recorded.
    """
    if control_of(session) is None:
        return None
    parts = WorkflowId.parse(letter.workflow_id)
    values = {"tenant": parts.owner, "workflow_id": letter.workflow_id, "run_id": letter.run_id}
    async with control_session(session, "look for a dead letter", owners=[parts.owner]) as control:
        row = (await control.execute(_RECORDED, values)).one_or_none()
    return None if row is None else Put(**row._mapping)


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

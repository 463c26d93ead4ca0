"""The inputs of dead letters, stored as outbox messages of the tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from temporalio.client import Client

from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.errors import InvalidPayload, TenancyError
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.payloads import read_message
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.postgres.database_errors import LockHeld
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.lock_timeouts import BRIEF
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import input_of, started_event
from temporal_tenancy.stores.errors import STORE_AWAY


class InputForgotten(TenancyError):
    """The job's input is no longer stored anywhere."""


class InputAway(TenancyError):
    """The tenant's database, which keeps the job's input, does not answer."""


class InputLocked(TenancyError):
    """The job's input is locked by another transaction."""


_DELETE: Final = library_text("""
    delete from tenancy.outbox_messages
    where id = any(cast(:ids as uuid[])) and status = 'dead_letter'
""")


async def kept_input(letter: DeadLetterRow) -> str | None:
    """Returns the stored input of a letter's job, without the tenant, as JSON text.

    The text is as the producer wrote it and may be unreadable; decode it with
    `core.payloads.read_message`. None if no input was stored.

    Raises:
        LockHeld: another transaction has locked the input.
    """
    if letter.message_id is None:
        return None
    key = letter.tenant_id, letter.message_id
    with enter(TenantScope(letter.tenant_id)):
        async with tenant_session(limits=BRIEF) as session:
            return (await payload_texts(session, [key])).get(key)


async def forget_inputs(tenant_id: str, message_ids: Sequence[UUID]) -> bool:
    """Deletes stored inputs that nobody will replay.

    Returns:
        False if another transaction has locked one of them (none is deleted then), or if the
        tenant's own database does not answer; else True.
    """
    try:
        scope = TenantScope(tenant_id)
    except TenancyError:
        return True  # the row names no valid tenant, so there is no data
    try:
        with enter(scope):
            async with tenant_session(limits=BRIEF) as session:
                await session.execute(_DELETE, {"ids": list(message_ids)})
    except (LockHeld, *STORE_AWAY):
        return False
    return True


async def input_of_run(client: Client, workflow_id: str, run_id: str) -> tuple[Any, int]:
    """Reads the input and the attempt number of a run from the server.

    Returns:
        The input as decoded JSON, or None if it is unreadable or not a single value; and the
        attempt, from 1.

    Raises:
        RPCError: with status NOT_FOUND, the server no longer has the run.
    """
    started = await started_event(client, workflow_id, run_id)
    return await input_of(client, workflow_id, started), started.attempt


async def input_of_letter(client: Client, letter: DeadLetterRow, job: Job) -> BaseModel:
    """Returns the input of a letter's job: the stored one, or else the one that the server has.

    Raises:
        InputForgotten: neither is there.
        InputLocked: another transaction has locked the stored one.
        InputAway: the tenant's own database does not answer.
        InvalidPayload, PayloadUnreadable: it does not fit the job, or cannot be read.
    """
    what = f"the input of {job.name}"
    try:
        kept = await kept_input(letter)
    except LockHeld:
        raise InputLocked(
            f"another transaction has locked {what} for {letter.tenant_id}, so it was not started. "
            "Try again; pg_locks says who holds it."
        ) from None
    except STORE_AWAY as error:
        raise InputAway(f"{what} cannot be read: {error.message}") from None
    values = None if kept is None else read_message(kept, what=what)
    if values is None and letter.run_id is not None:
        started_with = await if_known(input_of_run(client, letter.workflow_id, letter.run_id))
        values = None if started_with is None else started_with[0]
    if values is None:
        raise InputForgotten(
            f"the input of {letter.workflow_id} was not stored, and the server no longer has it. "
            "Start the job again with its input."
        )
    if not isinstance(values, dict):
        raise InvalidPayload(f"{what} is not a JSON object.")
    # The letter's tenant; an input that names another tenant is refused at the start.
    return read_input(job.input_model, {"tenant_id": letter.tenant_id, **values}, what=what)

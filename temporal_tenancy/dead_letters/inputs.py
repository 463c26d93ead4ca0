"""The inputs of dead letters, which are kept among the tenant's own outbox messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from temporalio.client import Client

from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.postgres.database_errors import LockHeld
from temporal_tenancy.postgres.lock_timeouts import BRIEF
from temporal_tenancy.sdk.taken_ids import input_of, started_event

_DELETE: Final = text("""
    delete from outbox_messages where id = any(cast(:ids as uuid[])) and status = 'dead_letter'
""")


async def kept_input(letter: DeadLetterRow) -> str | None:
    """The input that was kept of a letter's job, without the tenant, as its JSON text.

    It is what a producer wrote, and may be none that can be read (`payloads.read`). None: none was
    kept.
    """
    if letter.message_id is None:
        return None
    key = letter.tenant_id, letter.message_id
    with enter(TenantScope(letter.tenant_id)):
        async with tenant_session(limits=BRIEF) as session:
            return (await payload_texts(session, [key])).get(key)


async def forget_inputs(tenant_id: str, message_ids: Sequence[UUID]) -> bool:
    """Deletes inputs of a tenant's letters that nobody will replay; False where some are locked."""
    try:
        scope = TenantScope(tenant_id)
    except TenancyError:
        return True  # what a row names as its tenant is none, and has no data
    try:
        with enter(scope):
            async with tenant_session(limits=BRIEF) as session:
                await session.execute(_DELETE, {"ids": list(message_ids)})
    except LockHeld:
        return False
    return True


async def input_of_run(client: Client, workflow_id: str, run_id: str) -> tuple[Any, int]:
    """What a run was started with (JSON; None where it is no one value), and which attempt it is.

    Raises `RPCError` (NOT_FOUND) where the server no longer has the run.
    """
    started = await started_event(client, workflow_id, run_id)
    return await input_of(client, workflow_id, started), started.attempt

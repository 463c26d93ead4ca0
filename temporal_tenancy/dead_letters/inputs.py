"""The inputs of dead letters, which are kept among the tenant's own outbox messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from temporalio.client import Client
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.control_plane.models import DeadLetterRow
from temporal_tenancy.database import tenant_session
from temporal_tenancy.database_errors import LockHeld
from temporal_tenancy.lock_timeouts import LOCK_TIMEOUT
from temporal_tenancy.scope import TenantScope, enter

_READ: Final = text("select payload from outbox_messages where id = :id")
_DELETE: Final = text("""
    delete from outbox_messages where id = any(cast(:ids as uuid[])) and status = 'dead_letter'
""")


async def kept_input(letter: DeadLetterRow) -> Any:  # JSON: whatever a producer wrote
    """The input that was kept of a letter's job, without the tenant; None: none was."""
    if letter.message_id is None:
        return None
    with enter(TenantScope(letter.tenant_id)):
        async with tenant_session(lock_timeout=LOCK_TIMEOUT) as session:
            return await session.scalar(_READ, {"id": letter.message_id})


async def forget_inputs(tenant_id: str, message_ids: Sequence[UUID]) -> bool:
    """Deletes inputs of a tenant's letters that nobody will replay; False where some are locked."""
    try:
        with enter(TenantScope(tenant_id)):
            async with tenant_session(lock_timeout=LOCK_TIMEOUT) as session:
                await session.execute(_DELETE, {"ids": list(message_ids)})
    except LockHeld:
        return False
    return True


async def input_of_run(client: Client, workflow_id: str, run_id: str) -> tuple[Any, int]:
    """What a run was started with (JSON; None where it is no one value), and which attempt it is.

    Raises `RPCError` (NOT_FOUND) where the server no longer has the run.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    async for event in handle.fetch_history_events(page_size=1):
        started = event.workflow_execution_started_event_attributes
        converter = client.data_converter.with_context(
            WorkflowSerializationContext(client.namespace, workflow_id)
        )
        try:
            values = await converter.decode(started.input.payloads)
        except Exception:  # whatever a converter or a codec raises: of others' making
            values = []
        return values[0] if len(values) == 1 else None, started.attempt
    raise RPCError("the run has no history", RPCStatusCode.NOT_FOUND, b"")

"""Explains what a message in the outbox waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from temporal_tenancy.cli._directory_access import relays_directory_problem
from temporal_tenancy.cli._hints import IN_OWN_DIRECTORY
from temporal_tenancy.cli._server_access import directory_of
from temporal_tenancy.cli._suspensions import suspension_reasons
from temporal_tenancy.cli.answers import when
from temporal_tenancy.cli.program import current_application, message_with_hint, quoted
from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.outbox import MessageStatus, OutboxMessage, RelayOptions
from temporal_tenancy.outbox.inspection import find_message
from temporal_tenancy.outbox.relay import admission
from temporal_tenancy.outbox.relay.admission import NOTHING
from temporal_tenancy.outbox.tables import WAITING
from temporal_tenancy.postgres.database import Database, tenant_session, use_database


async def explain_message(database: Database, workflow_id: WorkflowId) -> dict[str, Any] | None:
    """Returns the message of a tenant's run as JSON, or None; `waiting_for` says why it waits."""
    with use_database(database), enter(TenantScope(workflow_id.owner)):
        async with tenant_session() as session:
            message = await find_message(session, workflow_id.job, workflow_id.key)
    if message is None:
        return None
    return {
        "id": str(message.id),
        "status": message.status,
        "attempts": message.attempts,
        "scheduled_at": message.scheduled_at,
        "created_at": message.created_at,
        "error_type": message.error_type,
        "error_message": message_with_hint(message.error_type or "", message.error_message or "")
        or None,
        "worked_off_by": message.workflow_id,
        "waiting_for": await _waits_for(database, message),
    }


def message_line(message: dict[str, Any]) -> str:
    """Returns a message on one line."""
    status = message["status"].replace("_", " ")
    why = f": {message['error_type']}: {message['error_message']}" if message["error_type"] else ""
    return f"{message['id']}, {status}, attempt {message['attempts']}{why}"


async def _waits_for(database: Database, message: OutboxMessage) -> list[str]:
    if message.status == MessageStatus.PROCESSING:
        holder = (
            f'"{message.workflow_id}" works it off' if message.workflow_id else "a relay has it"
        )
        return [f"{holder} since {when(message.dequeued_at)}."]
    if message.status not in WAITING:
        return []
    reasons = []
    if message.scheduled_at > datetime.now(UTC):
        start = "It is retried" if message.attempts else "It starts"
        reasons.append(f"{start} at {when(message.scheduled_at)}.")
    tenant = await directory_of(database).find(message.tenant_id)
    reasons += await held_back(database, message.tenant_id, tenant, registry.get(message.job))
    problem = await relays_directory_problem()
    if problem is not None:
        reasons.append(f"No relay can take it: {problem}")
    return reasons or [_nothing_but_a_relay(tenant)]


def _nothing_but_a_relay(tenant: Tenant | None) -> str:
    if tenant is None or tenant.isolation is not Isolation.DATABASE:
        return "It waits for a relay, which takes it within a second if one runs."
    seconds = f"{RelayOptions().store_poll.total_seconds():g}"
    return (
        f"It waits for a relay, which looks at {tenant.id}'s own database every {seconds} s, or as "
        "often as its store_poll says."
    )


async def held_back(
    database: Database, tenant_id: str, tenant: Tenant | None, job: Job | None
) -> list[str]:
    """Returns why no relay may take a tenant's messages of a job now, and what ends it."""
    async with database.platform_session("explain a message") as session:
        decision = (await admission.decisions(session, [tenant_id])).get(tenant_id, NOTHING)
        running = (await admission.in_flight(session, [tenant_id])).get(tenant_id, 0)
    reason = admission.held_back(tenant, decision, job)
    if reason is not None:
        paused = decision.paused_since is not None
        if not paused and tenant is not None:
            reason += (await suspension_reasons(database, [tenant])).get(tenant_id, "")
        if not paused and current_application().has_own_directory:
            return [f"{tenant_id}: {reason}. {IN_OWN_DIRECTORY}."]
        command = "outbox resume" if paused else "tenants resume"
        return [f"{tenant_id}: {reason}. {quoted(f'{command} {tenant_id}')} lets it continue."]
    cap = admission.cap_of(tenant, decision)
    if cap is not None and running >= cap:
        return [
            f"{running} of {tenant_id}'s jobs run, and its cap is {cap}: it starts when one ends."
        ]
    return []

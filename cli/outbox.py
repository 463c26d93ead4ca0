"""Asking for jobs through the outbox, and what is released of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import typer

from cli import given as reading
from cli.answers import Answer, lines, number, table, when
from cli.servers import control_plane, servers
from connect import HOW_TO_START, NotReachable, plain, reaching
from settings import load_settings
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.database import Database, tenant_session, use_database
from temporal_tenancy.directory import Tenant
from temporal_tenancy.identifiers import WorkflowId, tenant_id
from temporal_tenancy.inputs import read_input
from temporal_tenancy.outbox import enqueue
from temporal_tenancy.outbox.inspection import backlogs
from temporal_tenancy.relay import admission
from temporal_tenancy.relay.admission import NOTHING
from temporal_tenancy.scope import TenantScope, enter
from temporal_tenancy.tenant_state import unknown


async def ask(
    job_name: str, *, tenant: str | None, given: str | None, key: str | None, at: str | None
) -> Answer:
    """Writes a message; a relay starts the job.

    Raises:
        TenancyError: the input does not fit, or there is no such tenant; nothing is written.
    """
    job = reading.tenant_job(job_name)
    what = f"the input of {job.name}"
    values = reading.fields(given, what=what)
    owner = values["tenant_id"] = reading.owner(tenant, values, what=what)
    values = job.with_period(values, key)
    job_input = read_input(job.input_model, values, what=what)
    if key is None:
        key = job.key_of(job_input) or reading.uuid7()
    moment = _moment(at)
    async with control_plane() as database:
        await _find(database, owner)
        with use_database(database), enter(TenantScope(owner)):
            async with tenant_session():
                message_id = await enqueue(job.name, job_input, key=key, at=moment)
    workflow_id = WorkflowId(owner, job.name, key)
    document = {"message_id": str(message_id), "workflow_id": str(workflow_id)}
    return Answer(
        document,
        lines(
            f"{workflow_id} is asked for, by the message {message_id}.",
            f'"starter.py explain {workflow_id}" says where it stands.',
        ),
    )


async def show() -> Answer:
    """What each tenant has waiting, and why it waits."""
    async with _relays_view() as (view, database):
        async with view.platform_session("look at the outbox") as session:
            waiting = await backlogs(session)
            tenants = [backlog.tenant_id for backlog in waiting]
            decided = await admission.decisions(session, tenants)
            running = await admission.in_flight(session, tenants)
        found = await ControlPlaneDirectory(database).find_many(tenants)
    records = {tenant.id: tenant for tenant in found}
    documents: list[dict[str, Any]] = []  # JSON
    for backlog in waiting:
        tenant = records.get(backlog.tenant_id)
        decision = decided.get(backlog.tenant_id, NOTHING)
        cap = admission.cap_of(tenant, decision)
        in_flight = running.get(backlog.tenant_id, 0)
        held = admission.held_back(tenant, decision)
        if held is None and cap is not None and in_flight >= cap:
            held = f"{in_flight} of its jobs run, and its cap is {cap}"
        documents.append(
            {
                "tenant_id": backlog.tenant_id,
                "pending": backlog.pending,
                "failed": backlog.failed,
                "processing": backlog.processing,
                "due_since": backlog.due_since,
                "concurrency_cap": cap,
                "in_flight": in_flight if cap is not None else None,
                "held_back": held,
            }
        )
    rows = [
        (d["tenant_id"], d["pending"], d["failed"], d["processing"], when(d["due_since"]),
         d["concurrency_cap"], d["held_back"])
        for d in documents
    ]  # fmt: skip
    titles = ("tenant", "pending", "to be retried", "in hand", "due since", "cap", "held back")
    text = table(titles, rows) if rows else "Nothing waits."
    return Answer(documents, text)


async def pause(tenant: str, reason: str | None) -> Answer:
    """Releases none of a tenant's messages; raises `TenantUnknown` where there is none."""
    async with control_plane() as database:
        await Admission(database).pause(tenant_id(tenant), reason)
    text = f"Of {tenant} nothing is released from now on; what runs goes on."
    resume_it = f'"starter.py outbox resume {tenant}" releases its messages again.'
    return Answer({"tenant_id": tenant, "paused": True}, lines(text, resume_it))


async def resume(tenant: str) -> Answer:
    """Releases a tenant's messages again; raises `TenantUnknown` where there is none."""
    async with control_plane() as database:
        await Admission(database).resume(tenant_id(tenant))
    return Answer({"tenant_id": tenant, "paused": False}, f"{tenant}'s messages are released.")


async def cap(tenant: str, how_many: int | None) -> Answer:
    """Sets how many of a tenant's released jobs may run at once; None: what its plan says.

    What runs already counts. Raises `TenantUnknown` where there is no such tenant.
    """
    async with servers() as there:
        running = []
        if how_many is not None:
            query = f"TenantId = '{tenant_id(tenant)}' AND ExecutionStatus = 'Running'"
            running = [run.id async for run in there.client.list_workflows(query)]
        await Admission(there.database).set_cap(tenant_id(tenant), how_many, running=running)
        record = await _find(there.database, tenant)
    limit = how_many if how_many is not None else record.plan.concurrency_cap
    document = {"tenant_id": tenant, "concurrency_cap": limit, "running": len(running)}
    if limit is None:
        return Answer(document, f"{tenant} has no cap: its plan {record.plan.id} sets none.")
    now = f" {number(len(running), 'job')} of its own run now." if running else ""
    return Answer(document, f"At most {number(limit, 'job')} of {tenant} run at once.{now}")


@asynccontextmanager
async def _relays_view() -> AsyncIterator[tuple[Database, Database]]:
    """The outbox of all tenants, as the relay has it, and the control plane."""
    url = plain(load_settings().relay_database_url)
    if url is None:
        raise NotReachable(
            f"RELAY_DATABASE_URL is not set, and only the relay sees all messages. {HOW_TO_START}"
        )
    view = Database(platform_url=url, application_name="starter")
    try:
        async with control_plane() as database:
            with reaching():
                yield view, database
    finally:
        await view.dispose()


async def _find(database: Database, identifier: str) -> Tenant:
    tenant = await ControlPlaneDirectory(database).find(identifier)
    if tenant is None:
        raise unknown(identifier)
    return tenant


def _moment(given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise typer.BadParameter(
            'it is a time with its offset, as "2026-12-24T18:00:00Z".', param_hint="--at"
        )
    return reading.moment(moment, option="--at")

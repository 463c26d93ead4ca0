"""Requests jobs through the outbox, and controls what the relay releases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.cli._messages import held_back
from temporal_tenancy.cli._not_reachable import SettingMissing
from temporal_tenancy.cli._periods import refuse_unfinished
from temporal_tenancy.cli._server_access import control_plane, directory_of, known_tenant, servers
from temporal_tenancy.cli._suspensions import suspension_reasons
from temporal_tenancy.cli.answers import Answer, lines, minute, sentence, table, when, whole
from temporal_tenancy.cli.program import current_application, current_program, quoted
from temporal_tenancy.control_plane.admission import Admission
from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.identifiers import WorkflowId, tenant_id
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.words import number
from temporal_tenancy.outbox import Enqueued, MessageStatus, waiting
from temporal_tenancy.outbox.enqueueing import enqueue_or_find
from temporal_tenancy.outbox.inspection import (
    Backlog,
    WaitingMessage,
    backlogs,
    waiting_messages,
)
from temporal_tenancy.outbox.relay import admission
from temporal_tenancy.outbox.relay.admission import NOTHING
from temporal_tenancy.outbox.store_outboxes import ask_stores
from temporal_tenancy.outbox.tables import WAITING
from temporal_tenancy.outbox.waiting import ByKey, Waiting
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.library_text import library_text


async def ask(
    job_name: str, *, tenant: str | None, input_json: str | None, key: str | None, at: str | None
) -> Answer:
    """Writes a message; a relay starts the job.

    Raises:
        TenancyError: the input does not fit, or the tenant does not exist; nothing is written.
    """
    job = arguments.tenant_job(job_name)
    what = f"the input of {job.name}"
    values = arguments.input_fields(input_json, what=what)
    owner = values["tenant_id"] = arguments.owner(tenant, values, what=what)
    if key is not None:
        WorkflowId(owner, job.name, key)  # raises for a key that is not valid
    values = job.with_period(values, key)
    job_input = read_input(job.input_model, values, what=what)
    moment = _moment(at)
    async with control_plane() as database:
        async with _session_of(database, owner) as record:
            refuse_unfinished(job, job_input, record, at=moment)
            asked = await enqueue_or_find(job.name, job_input, key=key, at=moment)
        waits = asked.status in WAITING
        waiting_for = await held_back(database, owner, record, job) if waits else []
    workflow_id = WorkflowId(owner, job.name, asked.key)
    document = {
        "message_id": str(asked.id),
        "workflow_id": str(workflow_id),
        "added": asked.added,
        "status": asked.status,
        "scheduled_at": asked.scheduled_at,
        "waiting_for": waiting_for,
    }
    explain = f"{quoted_command('explain', str(workflow_id))} shows its status."
    its_id = whole(str(workflow_id))
    if asked.added:
        return Answer(
            document,
            lines(
                sentence(its_id, f"is requested, by the message {asked.id}."), *waiting_for, explain
            ),
        )
    return Answer(
        document,
        lines(
            sentence(
                its_id,
                f"was asked for already, by the message {asked.id}, {_stands(asked)}. It stays as "
                "it is.",
            ),
            *waiting_for,
            explain,
            _how_to_take_back(asked, owner) if asked.status in WAITING else None,
        ),
    )


async def cancel(
    message: str | None, *, tenant: str | None, job: str | None, key: str | None
) -> Answer:
    """Cancels a waiting message; raises a `TenancyError` if it is missing or was started."""
    which = _which(message, job, key)
    owner = await _owner(which, tenant)
    with _naming_the_job(which):
        async with _tenants_session(owner):
            cancelled = await waiting.cancel(which)
    workflow_id = WorkflowId(owner, cancelled.job, cancelled.key)
    text = sentence(whole(str(workflow_id)), "is no longer requested.")
    return Answer(_document(owner, cancelled) | {"cancelled": True}, text)


async def reschedule(
    message: str | None, *, tenant: str | None, job: str | None, key: str | None, at: str
) -> Answer:
    """Moves a waiting message to another time; raises the same as `cancel`."""
    which = _which(message, job, key)
    moment = _moment(at)
    assert moment is not None
    owner = await _owner(which, tenant)
    with _naming_the_job(which):
        async with _tenants_session(owner):
            moved = await waiting.reschedule(which, moment)
    workflow_id = WorkflowId(owner, moved.job, moved.key)
    text = sentence(
        whole(str(workflow_id)),
        f"starts at {when(moved.scheduled_at)}, or as soon as possible after."
        if moved.scheduled_at > datetime.now(UTC)
        else f"has been due since {when(moved.scheduled_at)}: it starts as soon as a relay takes "
        "it.",
    )
    return Answer(_document(owner, moved), text)


async def show(of: str | None = None, limit: int = 20) -> Answer:
    """Shows each tenant's waiting messages, why they wait, and the ids of the first `limit`."""
    only = None if of is None else tenant_id(of)
    async with _relays_view() as (view, database):
        async with view.platform_session("look at the outbox") as session:
            backlog_of_all = [
                each for each in await backlogs(session) if only in (None, each.tenant_id)
            ]
            messages = await waiting_messages(session, tenant_id=only, limit=limit)
        apart = await _apart(view, only, limit)
        backlog_of_all = sorted([*backlog_of_all, *apart.backlogs], key=_tenant_of)
        messages = sorted([*messages, *apart.messages], key=_due)[:limit]
        tenants = [backlog.tenant_id for backlog in backlog_of_all]
        async with view.platform_session("look at the outbox") as session:
            decisions = await admission.decisions(session, tenants)
            running = await admission.in_flight(session, tenants)
        known = await directory_of(database).find_many(tenants)
        why_suspended = await suspension_reasons(database, known)
    records = {tenant.id: tenant for tenant in known}
    documents: list[dict[str, Any]] = []  # JSON
    for backlog in backlog_of_all:
        tenant = records.get(backlog.tenant_id)
        decision = decisions.get(backlog.tenant_id, NOTHING)
        cap = admission.cap_of(tenant, decision)
        in_flight = running.get(backlog.tenant_id, 0)
        reason = admission.held_back(tenant, decision)
        away = apart.away.get(backlog.tenant_id)
        if reason is not None and decision.paused_since is None:
            reason += why_suspended.get(backlog.tenant_id, "")
        if reason is None and cap is not None and in_flight >= cap:
            reason = f"{in_flight} of its jobs run, and its cap is {cap}"
        if reason is None and backlog.due_since is None and backlog.next_at is not None:
            reason = f"none is due before {minute(backlog.next_at)}"
        if away is not None:
            reason = away
        documents.append(
            {
                "tenant_id": backlog.tenant_id,
                "pending": None if away else backlog.pending,
                "failed": None if away else backlog.failed,
                "processing": None if away else backlog.processing,
                "due_since": backlog.due_since,
                "next_at": backlog.next_at,
                "concurrency_cap": cap,
                "in_flight": in_flight if cap is not None else None,
                "held_back": reason,
                "messages": [
                    {
                        "id": str(each.id),
                        "job": each.job,
                        "key": each.key,
                        "status": each.status,
                        "scheduled_at": each.scheduled_at,
                    }
                    for each in messages
                    if each.tenant_id == backlog.tenant_id
                ],
            }
        )
    rows = [
        (d["tenant_id"], d["pending"], d["failed"], d["processing"], minute(d["due_since"]),
         d["concurrency_cap"], d["held_back"])
        for d in documents
    ]  # fmt: skip
    titles = ("tenant", "pending", "to be retried", "in progress", "due since", "cap", "held back")
    more = sum((d["pending"] or 0) + (d["failed"] or 0) for d in documents) - len(messages)
    ids = [
        (whole(str(each.id)), each.tenant_id, each.job, whole(each.key), minute(each.scheduled_at))
        for each in messages
    ]
    text = lines(
        table(titles, rows, empty="Nothing waits."),
        table(("message", "tenant", "job", "key", "due"), ids) if ids else None,
        f"and {more:,} more; --limit and --tenant show others." if more > 0 and ids else None,
    )
    return Answer(documents, text)


@dataclass(frozen=True)
class _Apart:
    """What the outboxes of tenants in databases of their own have answered."""

    backlogs: Sequence[Backlog]  # those of stores that are away have no messages
    messages: Sequence[WaitingMessage]
    away: Mapping[str, str]  # why a store does not answer, by tenant


async def _apart(view: Database, tenant: str | None, limit: int) -> _Apart:
    async def waiting_in(
        session: AsyncSession,
    ) -> tuple[Sequence[Backlog], Sequence[WaitingMessage]]:
        found = await backlogs(session)
        return found, await waiting_messages(session, tenant_id=tenant, limit=limit)

    application = current_application()
    asked = await ask_stores(
        view,
        application.connections,
        waiting_in,
        tenant_id=tenant,
        installation=application.installation,
    )
    answers = [each.answer for each in asked if each.answer is not None]
    away = {each.tenant_id: each.why for each in asked if each.why is not None}
    nothing = [Backlog(tenant_id, 0, 0, 0, None) for tenant_id in away]
    return _Apart(
        backlogs=[*(backlog for found, _ in answers for backlog in found), *nothing],
        messages=[message for _, waiting in answers for message in waiting],
        away=away,
    )


def _tenant_of(backlog: Backlog) -> str:
    return backlog.tenant_id


def _due(message: WaitingMessage) -> tuple[datetime, UUID]:
    return message.scheduled_at, message.id


async def pause(tenant: str, reason: str | None) -> Answer:
    """Stops releasing a tenant's messages; raises `TenantUnknown`."""
    async with control_plane() as database:
        await Admission(database, directory_of(database)).pause(tenant_id(tenant), reason)
    text = f"{tenant}'s messages are no longer released; running jobs continue."
    resume_it = f"{quoted_command('outbox', 'resume', tenant)} releases them again."
    return Answer({"tenant_id": tenant, "paused": True}, lines(text, resume_it))


async def resume(tenant: str) -> Answer:
    """Releases a tenant's messages again; raises `TenantUnknown`."""
    async with control_plane() as database:
        await Admission(database, directory_of(database)).resume(tenant_id(tenant))
    return Answer({"tenant_id": tenant, "paused": False}, f"{tenant}'s messages are released.")


async def cap(tenant: str, how_many: int | None) -> Answer:
    """Sets how many of a tenant's released jobs may run at once; None sets the plan's number.

    Jobs that already run count. Raises `TenantUnknown`.
    """
    async with servers() as connections:
        running = []
        if how_many is not None:
            query = f"TenantId = '{tenant_id(tenant)}' AND ExecutionStatus = 'Running'"
            running = [run.id async for run in connections.client.list_workflows(query)]
        admitted = Admission(connections.database, directory_of(connections.database))
        await admitted.set_cap(tenant_id(tenant), how_many, running=running)
        record = await known_tenant(connections.database, tenant)
    limit = how_many if how_many is not None else record.plan.concurrency_cap
    document = {"tenant_id": tenant, "concurrency_cap": limit, "running": len(running)}
    if limit is None:
        return Answer(document, f"{tenant} has no cap: its plan {record.plan.id} sets none.")
    now = f" {number(len(running), 'job')} run now." if running else ""
    return Answer(document, f"At most {number(limit, 'job')} of {tenant} run at once.{now}")


_OWNERS: Final = library_text(
    "select tenant_id from tenancy.outbox_messages where id = :id order by tenant_id"
)


def _how_to_take_back(asked: Enqueued, tenant: str) -> str:
    which = (str(asked.id), "--tenant", tenant)
    return (
        f"{quoted_command('outbox', 'cancel', *which)} cancels it; "
        f"{quoted_command('outbox', 'reschedule', *which, '--at', 'TIME')} moves it."
    )


def _stands(asked: Enqueued) -> str:
    """Returns the status of an earlier message, for the end of a sentence."""
    if asked.status is MessageStatus.COMPLETED:
        return "and has been started"
    if asked.status is MessageStatus.PROCESSING:
        return "and is being started"
    if asked.scheduled_at <= datetime.now(UTC):
        return f"and has been due since {when(asked.scheduled_at)}"
    return f"which will run at {when(asked.scheduled_at)}"


def _document(tenant: str, message: Waiting) -> dict[str, Any]:  # JSON
    return {
        "message_id": str(message.id),
        "tenant_id": tenant,
        "job": message.job,
        "key": message.key,
        "scheduled_at": message.scheduled_at,
    }


def _which(message: str | None, job: str | None, key: str | None) -> UUID | ByKey:
    """Parses an id, or job and key; raises `typer.BadParameter` for neither or both."""
    if message is None and job is not None and key is not None:
        return ByKey(job, key)
    if message is None or job is not None or key is not None:
        raise typer.BadParameter("name a message by its id, or with --tenant, --job and --key.")
    try:
        return UUID(message)
    except ValueError:
        raise typer.BadParameter(
            f"it is a message's id, as {quoted('explain')} shows it.", param_hint="ID"
        ) from None


async def _owner(which: UUID | ByKey, tenant: str | None) -> str:
    """Returns the message's tenant; if `tenant` is None, looks it up as the relay's role."""
    if tenant is not None:
        return tenant_id(tenant)
    if isinstance(which, ByKey):
        raise typer.BadParameter("name the tenant of the message.", param_hint="--tenant")
    async with _relays_view() as (view, _):
        async with view.platform_session("look whose a message is") as session:
            owners = list(await session.scalars(_OWNERS, {"id": which}))
        owners = sorted({*owners, *await _owners_apart(view, which)})
    if not owners:
        raise waiting.MessageUnknown(f"the message {which} does not exist, or no longer exists.")
    if len(owners) > 1:
        raise typer.BadParameter(
            f"{' and '.join(owners[:5])} have a message with that id. Choose one with --tenant.",
            param_hint="--tenant",
        )
    return str(owners[0])


async def _owners_apart(view: Database, which: UUID) -> Sequence[str]:
    async def owners_in(session: AsyncSession) -> Sequence[str]:
        return list(await session.scalars(_OWNERS, {"id": which}))

    application = current_application()
    asked = await ask_stores(
        view, application.connections, owners_in, installation=application.installation
    )
    return [owner for each in asked for owner in each.answer or ()]


@contextmanager
def _naming_the_job(which: UUID | ByKey) -> Iterator[None]:
    """Raises `UnknownJob`, with the nearest one, if there is no message and no job of that name.

    A job that was removed may still have messages.
    """
    try:
        yield
    except waiting.MessageUnknown:
        if isinstance(which, ByKey):
            registry.get_or_raise(which.job)
        raise


@asynccontextmanager
async def _tenants_session(tenant: str) -> AsyncIterator[Tenant]:
    """Opens a session of an existing tenant; raises `TenantUnknown`."""
    async with control_plane() as database, _session_of(database, tenant) as record:
        yield record


@asynccontextmanager
async def _session_of(database: Database, tenant: str) -> AsyncIterator[Tenant]:
    record = await known_tenant(database, tenant)
    with use_database(database), enter(TenantScope(tenant)):
        async with tenant_session():
            yield record


@asynccontextmanager
async def _relays_view() -> AsyncIterator[tuple[Database, Database]]:
    """Opens the outbox of all tenants, as the relay's role, and the control plane."""
    application = current_application()
    login = application.relay
    if login.url is None:
        what = f"{login.setting} is not set, and only the relay sees all messages."
        raise SettingMissing(f"{what} {application.how_to_start}".rstrip())
    view = Database(
        platform_url=login.url,
        application_name=current_program().application_name,
        installation=current_application().installation,
    )
    try:
        async with control_plane() as database:
            yield view, database
    finally:
        await view.dispose()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else arguments.start_time(text, option="--at")

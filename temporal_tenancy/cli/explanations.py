"""Explains a run: what it is, its owner, its status, why it failed, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.service import RPCError

from temporal_tenancy.cli._behind import behind
from temporal_tenancy.cli._failures import RunUnknown
from temporal_tenancy.cli._findings import Findings
from temporal_tenancy.cli._messages import explain_message, message_line
from temporal_tenancy.cli._nearest_tenant import nearest_tenant
from temporal_tenancy.cli._next_steps import Step, next_steps
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._pending import waits_for
from temporal_tenancy.cli._server_access import Temporal, control_plane, directory_of, temporal
from temporal_tenancy.cli._waiting import problem_of
from temporal_tenancy.cli.answers import Answer, address, facts, json_text, lines, when, whole
from temporal_tenancy.cli.program import message_with_hint, quoted, with_hint
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState, LedgerState
from temporal_tenancy.core.errors import (
    ConfigurationError,
    StoreMismatch,
    TenancyError,
    TenantUnknown,
)
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.nearest import nearest
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import (
    InputAway,
    InputForgotten,
    InputLocked,
    input_of_letter,
)
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox import MessageStatus
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.sql_directory import DirectoryUnreadable
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import input_of, started_event
from temporal_tenancy.stores.errors import ConnectionSecretMissing
from temporal_tenancy.ticks.fan_out import tick_of
from temporal_tenancy.ticks.fan_out.workflows import SCHEDULED_TIME

_BAD: Final = (DeadLetterState.OPEN, DeadLetterState.DISCARDED)
LEDGER_AWAY: Final = "the control plane does not answer, so the ledger cannot be read"


async def explain(workflow_id: str) -> Answer:
    """Explains the latest run of a workflow id; raises `RunUnknown` if no server knows it."""
    async with temporal() as connection:
        findings = await _look(connection, workflow_id)
        await _ask_control_plane(connection, findings)
        if findings.run is None and findings.entry is None and findings.message is None:
            if findings.unasked is not None:
                raise _unasked(findings, findings.unasked)
            if isinstance(findings.store_away, StoreMismatch):
                raise findings.store_away
            if findings.store_away is not None:
                raise NotReachable(
                    f"{_with_hint(findings.store_away)} The server has no run "
                    f"{findings.workflow_id!r}, but whether it was requested is not known. Ask "
                    "again when the store answers."
                )
            raise RunUnknown(
                f'there is no run "{workflow_id}" in the namespace '
                f'"{connection.client.namespace}": it was never started, or the server has '
                f"forgotten it. {_forgotten_soon(findings)}{_what_an_id_reads(findings)}"
            )
        return _answer(connection, findings)


async def _look(connection: Temporal, workflow_id: str) -> Findings:
    findings = Findings(workflow_id, None, None)
    try:
        findings.parts = WorkflowId.parse(workflow_id)
        findings.job = registry.get(findings.parts.job)
    except TenancyError:
        pass
    handle = connection.client.get_workflow_handle(workflow_id)
    findings.run = run = await if_known(handle.describe())
    if run is None:
        return findings
    run_input = await input_of(
        connection.client, run.id, await started_event(connection.client, run.id, run.run_id)
    )
    findings.input = run_input if isinstance(run_input, dict) else {}
    if findings.kind in ("tick", "shard") and findings.job is not None:
        nominal = run.typed_search_attributes.get(SCHEDULED_TIME) or run.start_time
        findings.tick = findings.input.get("tick") or tick_of(findings.job, nominal)
    if run.status is WorkflowExecutionStatus.RUNNING:
        findings.waiting += await waits_for(connection.client, run)
        return findings
    try:
        handle = connection.client.get_workflow_handle(workflow_id, run_id=run.run_id)
        findings.result = await handle.result()
    except WorkflowFailureError as error:
        findings.failure = problem_of(error)
    except RPCError:
        raise
    except Exception:  # noqa: S110  # a converter may raise anything
        pass
    return findings


async def _ask_control_plane(connection: Temporal, findings: Findings) -> None:
    parts, job = findings.parts, findings.job
    if parts is None or job is None:
        return
    try:
        async with control_plane() as database:
            if findings.kind == "tenant job":
                findings.entry = await _entry(database, findings.workflow_id)
                findings.message = await _message(database, findings, parts)
                findings.letter = await _letter(database, parts, findings.message)
                findings.input_fits = await _input_fits(connection, database, findings)
                if findings.run is None and findings.message is not None:
                    findings.waiting += findings.message.pop("waiting_for")
                tenant = await directory_of(database).find(parts.owner)
                try:
                    known = require_runnable(parts.owner, tenant, job)
                    if (lacks := behind(known, job)) is not None:
                        findings.refused = with_hint(lacks.sentence)
                except TenantUnknown as error:
                    findings.likely_tenant = await nearest_tenant(error, directory_of(database))
                    findings.refused = with_hint(error.sentence)
                except TenancyError as error:
                    findings.refused = with_hint(error.sentence)
            elif findings.tick is not None:
                findings.entry = await _tick(database, job, findings.tick)
    except DirectoryUnreadable as error:
        findings.waiting.append(error.message)
    except (NotReachable, DatabaseProblem, ConfigurationError, SQLAlchemyError) as error:
        findings.unasked = error
        # Temporal alone knows a run that has ended; only what is still to come waits for the rest.
        if findings.run is None or findings.run.status is WorkflowExecutionStatus.RUNNING:
            findings.waiting.append(f"{LEDGER_AWAY}.")


async def _message(
    database: Database, findings: Findings, workflow_id: WorkflowId
) -> dict[str, Any] | None:
    """Returns the message; where the tenant's own store does not answer, it says so."""
    try:
        return await explain_message(database, workflow_id)
    except (DatabaseProblem, StoreMismatch) as error:
        tenant = await directory_of(database).find(workflow_id.owner)
        if tenant is None or tenant.isolation is Isolation.SHARED:
            raise
        if findings.run is None or findings.run.status is WorkflowExecutionStatus.RUNNING:
            unknown = f"Whether it was requested is not known: {_with_hint(error)}"
            if not isinstance(error, ConnectionSecretMissing):  # a relay may well have it
                unknown += f" Until then no relay takes messages of {workflow_id.owner}."
            findings.waiting.append(unknown)
        findings.store_away = error
        return None


def _with_hint(error: DatabaseProblem | StoreMismatch) -> str:
    return message_with_hint(type(error).__name__, error.message)


def _unasked(findings: Findings, error: Exception) -> Exception:
    """Returns the error for an id that only the control plane may know, which did not answer."""
    why = str(error) if isinstance(error, NotReachable) else f"{LEDGER_AWAY}."
    return NotReachable(
        f"{why} The server has no run {findings.workflow_id!r}, but whether it was requested or "
        "planned is not known. Ask again when the database answers."
    )


async def _entry(database: Any, workflow_id: str) -> dict[str, Any] | None:
    async with database.platform_session("explain a run") as session:
        row = await ledger.row_of_workflow(session, workflow_id)
    if row is None:
        return None
    return {
        "tick": row.tick,
        "state": row.state,
        "reason": row.reason and with_hint(row.reason),
        "attempts": row.attempts,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "run_id": row.run_id,
    }


async def _letter(
    database: Any, workflow_id: WorkflowId, message: dict[str, Any] | None
) -> DeadLetterRow | None:
    # A message that is no dead letter any more may still be the one that kept its input.
    message_id = None if message is None else UUID(message["id"])
    async with database.platform_session("explain a dead letter") as session:
        return await letters.of_workflow(session, workflow_id, message_id=message_id)


async def _input_fits(connection: Temporal, database: Any, findings: Findings) -> bool | None:
    """Returns whether a start with the input of a failed run is accepted; None if nobody knows."""
    job, parts, letter = findings.job, findings.parts, findings.letter
    if job is None or parts is None or not (findings.has_failed or letter):
        return None
    try:
        if findings.run is None:
            if letter is None:
                return None
            with use_database(database):
                job_input = await input_of_letter(connection.client, letter, job)
        else:
            job_input = read_input(job.input_model, findings.input, what="the input")
    except (InputAway, InputForgotten, InputLocked):
        return None
    except TenancyError:
        return False
    is_own = getattr(job_input, "tenant_id", None) == parts.owner
    return is_own and job.another_period(parts.key, getattr(job_input, "period", None)) is None


async def _tick(database: Any, job: Job, tick: str) -> dict[str, Any] | None:
    async with database.platform_session("explain a tick") as session:
        row = await ledger.find_tick(session, job.name, tick)
        counts = await ledger.count(session, job.name, tick)
    if row is None:
        return None
    return {"tick": tick, "state": row.state, **{str(s): n for s, n in counts.items()}}


def _answer(connection: Temporal, findings: Findings) -> Answer:
    run = findings.run
    parts = findings.parts
    status = run.status.name.lower() if run is not None and run.status else _absent(findings)
    url = None if run is None else connection.link(findings.workflow_id, run.run_id)
    steps = next_steps(findings)
    document: dict[str, Any] = {
        "workflow_id": findings.workflow_id,
        "run_id": None if run is None else run.run_id,
        "url": url,
        "what": _what(findings),
        "kind": findings.kind,
        "tenant_id": parts.tenant if parts else None,
        "job": parts.job if parts else None,
        "key": parts.key if parts else None,
        "tick": findings.tick or (findings.entry or {}).get("tick"),
        "queue": run.task_queue if run else None,
        "status": status,
        "since": _since(run),
        "waiting_for": findings.waiting,
        "failure": vars(findings.failure) if findings.failure else None,
        "result": findings.result,
        "ledger": findings.entry,
        "message": findings.message,
        "dead_letter": _letter_document(findings.letter),
        "what_to_do": [str(step) for step in steps],
    }
    letter = findings.letter
    text = facts(
        [
            ("what", document["what"]),
            ("run", None if run is None else whole(run.run_id)),
            ("status", _status_line(status, run)),
            *(("waits for" if i == 0 else " ", s) for i, s in enumerate(findings.waiting)),
            ("why", findings.failure and str(findings.failure)),
            ("result", json_text(findings.result)),
            ("ledger", _ledger_line(findings)),
            ("dead letter", letter and _letter_line(letter, findings)),
            ("message", _message_line(findings)),
            *_step_lines(steps),
        ]
    )
    return Answer(document, lines(text, address(url)))


def _absent(findings: Findings) -> str:
    """Returns the status of what the server has no run of: mostly never started, or forgotten.

    What one workflow handles together with others has no run of its own, but its message says.
    """
    letter, message = findings.letter, findings.message
    if message is not None and message["worked_off_by"] is not None:
        return "completed" if message["status"] == MessageStatus.COMPLETED else "running"
    if letter is not None and letter.source == Source.MESSAGE and letter.status in _BAD:
        return "failed"
    status = None if message is None else message["status"]
    if findings.is_handled_with_others and status == MessageStatus.FAILED:
        return "to be retried"
    if letter is not None and letter.status == DeadLetterState.RESOLVED:
        return "forgotten"
    waits = message is not None and message["status"] != MessageStatus.COMPLETED
    never = (LedgerState.PLANNED, LedgerState.SKIPPED, LedgerState.NOT_STARTED)
    return "not started" if waits or findings.state in never else "forgotten"


def _status_line(status: str, run: WorkflowExecutionDescription | None) -> str:
    words = status.replace("_", " ")
    since = _since(run)
    if run is None or since is None:
        return words
    if run.status is WorkflowExecutionStatus.RUNNING:
        return f"{words} since {when(since)}, for {duration(datetime.now(UTC) - since)}"
    took = f", after {duration(since - run.start_time)}" if run.close_time else ""
    return f"{words} since {when(since)}{took}"


def _letter_document(letter: DeadLetterRow | None) -> dict[str, Any] | None:
    if letter is None:
        return None
    return {
        "id": str(letter.id),
        "status": letter.status,
        "replays": letter.replays,
        "handled_at": letter.handled_at,
        "handled_by": letter.handled_by,
    }


def _letter_line(letter: DeadLetterRow, findings: Findings) -> str:
    handled = f" {when(letter.handled_at)} by {letter.handled_by}" if letter.handled_at else ""
    is_open = letter.status == DeadLetterState.OPEN
    if is_open and letter.replays:
        handled = f", after {number(letter.replays, 'replay')}; the last{handled}"
    elif is_open:
        handled = ""
    # Without a run nothing else says why.
    why = f": {with_hint(f'{letter.error_type}: {letter.message}')}"
    return f"{letter.id}, {letter.status}{handled}{why if is_open and not findings.failure else ''}"


def _message_line(findings: Findings) -> str | None:
    """Returns the line of the message, unless it only keeps the input of the dead letter."""
    message = findings.message
    if message is None:
        return None
    if findings.letter is not None and message["status"] == MessageStatus.DEAD_LETTER:
        return None
    return message_line(message)


def _step_lines(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    """Yields each step with its command on a line of its own, where it can be copied."""
    name = "what to do"
    for step in steps:
        for text in (whole(step.command), step.purpose):
            if text:
                yield name, text
                name = " "


def _forgotten_soon(findings: Findings) -> str:
    if not findings.is_handled_with_others or findings.job is None:
        return ""
    return (
        f"Several messages of {findings.job.name} share a run, so one that has succeeded is "
        "forgotten a minute later. "
    )


def _what_an_id_reads(findings: Findings) -> str:
    parts = findings.parts
    if _is_uuid(findings.workflow_id):
        shows = quoted(f"dead-letters show {findings.workflow_id}")
        return (
            "An id reads {tenant}/{job}/{key}. If this is the id of a dead letter, "
            f"{shows} shows it; if it is a message's, "
            f"{quoted('outbox list')} shows what waits."
        )
    if findings.likely_tenant is not None and parts is not None:
        return f'Did you mean "{findings.likely_tenant}/{parts.job}/{parts.key}"?'
    job = None if parts is None or parts.job in registry else nearest(parts.job, registry)
    if parts is not None and job is not None:
        return f'Did you mean "{parts.owner}/{job}/{parts.key}"?'
    return "An id reads {tenant}/{job}/{key}."


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _what(findings: Findings) -> str:
    job, parts, kind = findings.job, findings.parts, findings.kind
    if findings.taken_by is not None:
        return f"{findings.taken_by}, which is not what the id is for"
    if kind == "tenant job" and job is not None and parts is not None:
        if (ids := findings.input.get("message_ids")) and findings.is_handled_with_others:
            return f"{number(len(ids), 'message')} of {job.name} of {parts.owner}, in one run"
        return f"{job.name} of {parts.owner}, {parts.key}: {job.summary}"
    if kind in ("tick", "shard") and parts is not None:
        which = "a part of the fan-out" if kind == "shard" else "the fan-out"
        return f"{which} of {parts.job} over all tenants, tick {findings.tick}"
    name = findings.run.workflow_type if findings.run else findings.workflow_id
    if job is not None and parts is not None and parts.tenant is None:
        return f"{job.name}, a job of the platform: {job.summary}"
    if parts is None:
        return f"{name}, under an id that is not {{tenant}}/{{job}}/{{key}}"
    return f"{name} of {parts.owner}, which is not a job of this application"


def _since(run: WorkflowExecutionDescription | None) -> datetime | None:
    return None if run is None else run.close_time or run.start_time


def _ledger_line(findings: Findings) -> str | None:
    entry = findings.entry
    if entry is None:
        return None
    if findings.kind == "tenant job":
        reason = f": {entry['reason']}" if entry["reason"] else ""
        return f"tick {entry['tick']}, {entry['state'].replace('_', ' ')}{reason}"
    counts = ", ".join(
        f"{entry[state]:,} {state.replace('_', ' ')}" for state in LedgerState if entry[state]
    )
    return f"tick {entry['tick']}, {entry['state']}: {counts}"

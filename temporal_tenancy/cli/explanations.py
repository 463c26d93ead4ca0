"""Explains a run: what it is, its owner, its status, why it failed, and what to do."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.service import RPCError

from temporal_tenancy.cli._failures import RunUnknown
from temporal_tenancy.cli._messages import explain_message, message_line
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._pending import waits_for
from temporal_tenancy.cli._server_access import Temporal, control_plane, directory_of, temporal
from temporal_tenancy.cli._waiting import problem_of
from temporal_tenancy.cli.answers import Answer, Problem, address, facts, lines, when
from temporal_tenancy.cli.program import current_program, with_hint
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.errors import (
    ConfigurationError,
    InvalidPayload,
    TenancyError,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, job_of, registry
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.outbox.work_off import work_off_job
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.suspension import is_waiting
from temporal_tenancy.sdk.taken_ids import disagreement, input_of, started_event
from temporal_tenancy.ticks.fan_out import FanOut, tick_of
from temporal_tenancy.ticks.fan_out.workflows import SCHEDULED_TIME, Shard

# The start itself was wrong: the error says how, and another start would fail too.
WRONG_STARTS: Final = frozenset(
    error.__name__ for error in (TenantMissing, TenantInvalid, TenantMismatch, InvalidPayload)
)
LEDGER_AWAY: Final = "the control plane does not answer, so the ledger cannot be read"
FAILED: Final = (
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT,
)


@dataclass
class _Findings:
    """What the servers know about one workflow id."""

    workflow_id: str
    parts: WorkflowId | None  # None: not an id of the form {owner}/{job}/{key}
    job: Job | None  # None: not in the registry
    tick: str | None = None  # of a fan-out
    run: WorkflowExecutionDescription | None = None  # None: never started, or deleted by retention
    input: dict[str, Any] = field(default_factory=dict)  # of the run
    waiting: list[str] = field(default_factory=list)
    failure: Problem | None = None
    result: Any = None  # JSON
    entry: dict[str, Any] | None = None  # in the ledger
    refused: str | None = None  # why the tenant may not run it now
    message: dict[str, Any] | None = None  # in the outbox

    @property
    def is_paused(self) -> bool:
        """Whether an activity of the run waits until its tenant is resumed."""
        return self.run is not None and any(
            map(is_waiting, self.run.raw_description.pending_activities)
        )

    @property
    def taken_by(self) -> str | None:
        """What else uses a job's workflow id; None if nothing does."""
        if self.run is None or self.parts is None or self.job is None:
            return None
        own = (_name(FanOut), _name(Shard)) if self.parts.tenant is None else (work_off_job().name,)
        return disagreement(self.run, self.parts.job, *own)

    @property
    def kind(self) -> str:
        """Tenant job, tick, shard, or unknown."""
        if self.taken_by is not None:
            return "unknown"
        if self.run is not None and self.run.workflow_type in (_name(FanOut), _name(Shard)):
            return "tick" if self.run.workflow_type == _name(FanOut) else "shard"
        if self.parts is not None and self.parts.tenant and self.job is not None:
            return "tenant job"
        return "unknown"


async def explain(workflow_id: str) -> Answer:
    """Explains the latest run of a workflow id; raises `RunUnknown` if no server knows it."""
    async with temporal() as connection:
        findings = await _look(connection, workflow_id)
        await _ask_control_plane(findings)
        if findings.run is None and findings.entry is None and findings.message is None:
            raise RunUnknown(
                f'there is no run "{workflow_id}" in the namespace '
                f'"{connection.client.namespace}": it was never started, or the server has '
                "forgotten it. An id reads {tenant}/{job}/{key}."
            )
        return _answer(connection, findings)


async def _look(connection: Temporal, workflow_id: str) -> _Findings:
    findings = _Findings(workflow_id, None, None)
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


async def _ask_control_plane(findings: _Findings) -> None:
    parts, job = findings.parts, findings.job
    if parts is None or job is None:
        return
    try:
        async with control_plane() as database:
            if findings.kind == "tenant job":
                findings.entry = await _entry(database, findings.workflow_id)
                findings.message = await explain_message(database, parts)
                if findings.run is None and findings.message is not None:
                    findings.waiting += findings.message.pop("waiting_for")
                tenant = await directory_of(database).find(parts.owner)
                try:
                    require_runnable(parts.owner, tenant, job)
                except TenancyError as error:
                    findings.refused = with_hint(error.sentence)
            elif findings.tick is not None:
                findings.entry = await _tick(database, job, findings.tick)
    except (NotReachable, DatabaseProblem, ConfigurationError, SQLAlchemyError):
        # Temporal alone knows a run that has ended; only what is still to come waits for the rest.
        if findings.run is None or findings.run.status is WorkflowExecutionStatus.RUNNING:
            findings.waiting.append(f"{LEDGER_AWAY}.")


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


async def _tick(database: Any, job: Job, tick: str) -> dict[str, Any] | None:
    async with database.platform_session("explain a tick") as session:
        row = await ledger.find_tick(session, job.name, tick)
        counts = await ledger.count(session, job.name, tick)
    if row is None:
        return None
    return {"tick": tick, "state": row.state, **{str(s): n for s, n in counts.items()}}


def _answer(connection: Temporal, findings: _Findings) -> Answer:
    run = findings.run
    parts = findings.parts
    # Without a run, the ledger or the outbox says whether it was never started or is forgotten.
    state = (findings.entry or {}).get("state")
    waits = findings.message is not None and findings.message["status"] != "completed"
    absent = (
        "not started" if waits or state in ("planned", "skipped", "not_started") else "forgotten"
    )
    status = run.status.name.lower() if run is not None and run.status else absent
    url = None if run is None else connection.link(findings.workflow_id, run.run_id)
    todo = _todo(findings)
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
        "what_to_do": todo,
    }
    text = facts(
        [
            ("what", document["what"]),
            ("status", f"{status.replace('_', ' ')} since {when(_since(run))}" if run else status),
            *(("waits for" if i == 0 else " ", s) for i, s in enumerate(findings.waiting)),
            ("why", findings.failure and str(findings.failure)),
            ("result", _compact(findings.result)),
            ("ledger", _ledger_line(findings)),
            ("message", findings.message and message_line(findings.message)),
            *(("what to do" if i == 0 else " ", step) for i, step in enumerate(todo)),
        ]
    )
    return Answer(document, lines(text, address(url)))


def _what(findings: _Findings) -> str:
    job, parts, kind = findings.job, findings.parts, findings.kind
    if findings.taken_by is not None:
        return f"{findings.taken_by}, which is not what the id is for"
    if kind == "tenant job" and job is not None and parts is not None:
        return f"{job.name} of {parts.owner}, {parts.key}: {job.summary}"
    if kind in ("tick", "shard") and parts is not None:
        which = "a part of the fan-out" if kind == "shard" else "the fan-out"
        return f"{which} of {parts.job} over all tenants, tick {findings.tick}"
    name = findings.run.workflow_type if findings.run else findings.workflow_id
    if parts is None:
        return f"{name}, under an id that is not {{tenant}}/{{job}}/{{key}}"
    return f"{name} of {parts.owner}, which is not a job of this application"


def _since(run: WorkflowExecutionDescription | None) -> datetime | None:
    return None if run is None else run.close_time or run.start_time


def _ledger_line(findings: _Findings) -> str | None:
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


def _todo(findings: _Findings) -> list[str]:
    """Returns the commands to run next, in order; empty if there is nothing to do."""
    parts, run = findings.parts, findings.run
    failed = run is not None and run.status in FAILED
    if findings.kind == "tenant job" and parts is not None:
        done = findings.entry is not None and findings.entry["state"] == LedgerState.SUCCEEDED
        wrong = findings.failure is not None and findings.failure.type in WRONG_STARTS
        if findings.is_paused:
            return [_how_it_goes_on(findings, parts.owner)]
        if not failed or done or wrong:
            return []
        again = f"{_run_again(findings)} runs it again, for {parts.owner}."
        return [f"First: {findings.refused}", again] if findings.refused else [again]
    if (
        findings.kind in ("tick", "shard")
        and findings.job is not None
        and findings.entry is not None
    ):
        program = current_program().name
        show = f"{program} ticks show {findings.job.name} --tick {findings.tick}"
        again = f"{program} fan-out {findings.job.name} --tick {findings.tick} --wait"
        if failed or findings.entry[LedgerState.FAILED]:
            return [
                f"{show} names the tenants that failed.",
                f"{again} runs those that have not succeeded.",
            ]
    return []


def _how_it_goes_on(findings: _Findings, tenant: str) -> str:
    """Returns what a paused run needs to continue: the tenant's resumption, or nothing more."""
    if findings.refused:
        return findings.refused
    return f"Nothing: {tenant} may run again, and paused activities continue within a minute."


def _run_again(findings: _Findings) -> str:
    parts, job = findings.parts, findings.job
    assert parts is not None
    fields = {name: value for name, value in findings.input.items() if name != "tenant_id"}
    if job is not None and job.period is not None and fields.get("period") == parts.key:
        del fields["period"]  # the key names it already
    words = ["run", parts.job, "--tenant", parts.owner, "--key", parts.key]
    if fields:
        words += ["--input", json.dumps(fields, ensure_ascii=False)]
    return f"{current_program().name} {shlex.join(words)}"


def _compact(result: Any) -> str | None:  # JSON
    return None if result is None else json.dumps(result, ensure_ascii=False)


def _name(cls: type) -> str:
    job = job_of(cls)
    assert job is not None
    return job.name

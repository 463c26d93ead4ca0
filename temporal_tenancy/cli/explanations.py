"""Explaining a run: what it is, whose, where it stands, why it failed, and what to do."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

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
from temporal_tenancy.cli._server_access import Temporal, control_plane, temporal
from temporal_tenancy.cli._waiting import problem_of
from temporal_tenancy.cli.answers import Answer, Problem, address, facts, lines, when
from temporal_tenancy.cli.program import current_program, with_hint
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.errors import (
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
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.suspension import is_waiting
from temporal_tenancy.sdk.taken_ids import disagreement, input_of, started_event
from temporal_tenancy.ticks.fan_out import FanOut, tick_of
from temporal_tenancy.ticks.fan_out.workflows import SCHEDULED_TIME, Shard

# The start itself was wrong: its sentence says how, and starting it again would fail too.
WRONG_STARTS: Final = frozenset(
    error.__name__ for error in (TenantMissing, TenantInvalid, TenantMismatch, InvalidPayload)
)
LEDGER_AWAY: Final = "the control plane does not answer, so the ledger is not known here"
FAILED: Final = (
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT,
)


@dataclass
class _Findings:
    """What is known of one workflow id."""

    workflow_id: str
    parts: WorkflowId | None  # None: it is not one of our ids
    job: Job | None  # of the tenants; None: not known here
    tick: str | None = None  # of a fan-out
    run: WorkflowExecutionDescription | None = None  # None: the server has none, or no longer
    given: dict[str, Any] = field(default_factory=dict)  # its input
    waiting: list[str] = field(default_factory=list)
    failure: Problem | None = None
    result: Any = None  # JSON
    entry: dict[str, Any] | None = None  # in the ledger
    refused: str | None = None  # why the tenant may not run it now
    message: dict[str, Any] | None = None  # in the outbox

    @property
    def is_paused(self) -> bool:
        """Whether an activity of it waits until its tenant is resumed."""
        return self.run is not None and any(
            map(is_waiting, self.run.raw_description.pending_activities)
        )

    @property
    def taken_by(self) -> str | None:
        """What has taken a job's workflow id; None: nothing has."""
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
    """Explains the latest run of a workflow id; raises `RunUnknown` if nothing is known of it."""
    async with temporal() as there:
        found = await _look(there, workflow_id)
        await _ask_control_plane(found)
        if found.run is None and found.entry is None and found.message is None:
            raise RunUnknown(
                f'there is no run "{workflow_id}" in the namespace "{there.client.namespace}": '
                "it was never started, or the server has forgotten it. An id reads "
                "{tenant}/{job}/{key}."
            )
        return _answer(there, found)


async def _look(there: Temporal, workflow_id: str) -> _Findings:
    found = _Findings(workflow_id, None, None)
    try:
        found.parts = WorkflowId.parse(workflow_id)
        found.job = registry.get(found.parts.job)
    except TenancyError:
        pass
    handle = there.client.get_workflow_handle(workflow_id)
    found.run = run = await if_known(handle.describe())
    if run is None:
        return found
    given = await input_of(
        there.client, run.id, await started_event(there.client, run.id, run.run_id)
    )
    found.given = given if isinstance(given, dict) else {}
    if found.kind in ("tick", "shard") and found.job is not None:
        nominal = run.typed_search_attributes.get(SCHEDULED_TIME) or run.start_time
        found.tick = found.given.get("tick") or tick_of(found.job, nominal)
    if run.status is WorkflowExecutionStatus.RUNNING:
        found.waiting += await waits_for(there.client, run)
        return found
    try:
        handle = there.client.get_workflow_handle(workflow_id, run_id=run.run_id)
        found.result = await handle.result()
    except WorkflowFailureError as error:
        found.failure = problem_of(error)
    except RPCError:
        raise
    except Exception:  # noqa: S110  # a converter may raise anything
        pass
    return found


async def _ask_control_plane(found: _Findings) -> None:
    parts, job = found.parts, found.job
    if parts is None or job is None:
        return
    try:
        async with control_plane() as database:
            if found.kind == "tenant job":
                found.entry = await _entry(database, found.workflow_id)
                found.message = await explain_message(database, parts)
                if found.run is None and found.message is not None:
                    found.waiting += found.message.pop("waiting_for")
                tenant = await ControlPlaneDirectory(database).find(parts.owner)
                try:
                    require_runnable(parts.owner, tenant, job)
                except TenancyError as error:
                    found.refused = with_hint(error.sentence)
            elif found.tick is not None:
                found.entry = await _tick(database, job, found.tick)
    except NotReachable:
        found.waiting.append(f"{LEDGER_AWAY}.")


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


def _answer(there: Temporal, found: _Findings) -> Answer:
    run = found.run
    parts = found.parts
    # Without a run there is a ledger row: it was never started, or the server has forgotten it.
    state = (found.entry or {}).get("state")
    waits = found.message is not None and found.message["status"] != "completed"
    absent = (
        "not started" if waits or state in ("planned", "skipped", "not_started") else "forgotten"
    )
    status = run.status.name.lower() if run is not None and run.status else absent
    url = None if run is None else there.link(found.workflow_id, run.run_id)
    todo = _todo(found)
    document: dict[str, Any] = {
        "workflow_id": found.workflow_id,
        "run_id": None if run is None else run.run_id,
        "url": url,
        "what": _what(found),
        "kind": found.kind,
        "tenant_id": parts.tenant if parts else None,
        "job": parts.job if parts else None,
        "key": parts.key if parts else None,
        "tick": found.tick or (found.entry or {}).get("tick"),
        "queue": run.task_queue if run else None,
        "status": status,
        "since": _since(run),
        "waiting_for": found.waiting,
        "failure": vars(found.failure) if found.failure else None,
        "result": found.result,
        "ledger": found.entry,
        "message": found.message,
        "what_to_do": todo,
    }
    text = facts(
        [
            ("what", document["what"]),
            ("status", f"{status.replace('_', ' ')} since {when(_since(run))}" if run else status),
            *(("waits for" if i == 0 else " ", s) for i, s in enumerate(found.waiting)),
            ("why", found.failure and str(found.failure)),
            ("result", _compact(found.result)),
            ("ledger", _ledger_line(found)),
            ("message", found.message and message_line(found.message)),
            *(("what to do" if i == 0 else " ", step) for i, step in enumerate(todo)),
        ]
    )
    return Answer(document, lines(text, address(url)))


def _what(found: _Findings) -> str:
    job, parts, kind = found.job, found.parts, found.kind
    if found.taken_by is not None:
        return f"{found.taken_by}, which is not what the id is for"
    if kind == "tenant job" and job is not None and parts is not None:
        return f"{job.name} of {parts.owner}, {parts.key}: {job.summary}"
    if kind in ("tick", "shard") and parts is not None:
        which = "a part of the fan-out" if kind == "shard" else "the fan-out"
        return f"{which} of {parts.job} over all tenants, tick {found.tick}"
    name = found.run.workflow_type if found.run else found.workflow_id
    if parts is None:
        return f"{name}, under an id that is not {{tenant}}/{{job}}/{{key}}"
    return f"{name} of {parts.owner}, which is no job that is known here"


def _since(run: WorkflowExecutionDescription | None) -> datetime | None:
    return None if run is None else run.close_time or run.start_time


def _ledger_line(found: _Findings) -> str | None:
    entry = found.entry
    if entry is None:
        return None
    if found.kind == "tenant job":
        reason = f": {entry['reason']}" if entry["reason"] else ""
        return f"tick {entry['tick']}, {entry['state'].replace('_', ' ')}{reason}"
    counts = ", ".join(
        f"{entry[state]:,} {state.replace('_', ' ')}" for state in LedgerState if entry[state]
    )
    return f"tick {entry['tick']}, {entry['state']}: {counts}"


def _todo(found: _Findings) -> list[str]:
    """The commands to run next, in order; empty if there is nothing to do."""
    parts, run = found.parts, found.run
    failed = run is not None and run.status in FAILED
    if found.kind == "tenant job" and parts is not None:
        done = found.entry is not None and found.entry["state"] == LedgerState.SUCCEEDED
        wrong = found.failure is not None and found.failure.type in WRONG_STARTS
        if found.is_paused:
            return [_how_it_goes_on(found, parts.owner)]
        if not failed or done or wrong:
            return []
        again = f"{_run_again(found)} runs it again, for {parts.owner}."
        return [f"First: {found.refused}", again] if found.refused else [again]
    if found.kind in ("tick", "shard") and found.job is not None and found.entry is not None:
        program = current_program().name
        show = f"{program} ticks show {found.job.name} --tick {found.tick}"
        again = f"{program} fan-out {found.job.name} --tick {found.tick} --wait"
        if failed or found.entry[LedgerState.FAILED]:
            return [f"{show} names who failed.", f"{again} runs those who have not succeeded."]
    return []


def _how_it_goes_on(found: _Findings, tenant: str) -> str:
    """What lets a paused run go on: resuming the tenant, or nothing more."""
    if found.refused:
        return found.refused
    return f"Nothing: {tenant} may run again, and what waited goes on within a minute."


def _run_again(found: _Findings) -> str:
    parts, job = found.parts, found.job
    assert parts is not None
    given = {name: value for name, value in found.given.items() if name != "tenant_id"}
    if job is not None and job.period is not None and given.get("period") == parts.key:
        del given["period"]  # the key says it
    words = ["run", parts.job, "--tenant", parts.owner, "--key", parts.key]
    if given:
        words += ["--input", json.dumps(given, ensure_ascii=False)]
    return f"{current_program().name} {shlex.join(words)}"


def _compact(result: Any) -> str | None:  # JSON
    return None if result is None else json.dumps(result, ensure_ascii=False)


def _name(cls: type) -> str:
    job = job_of(cls)
    assert job is not None
    return job.name

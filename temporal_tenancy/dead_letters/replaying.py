"""Starting a dead letter's job again: in its own tenant, under its own id, with its own input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import DeadLetterRow, LedgerState
from temporal_tenancy.core.directory import current_directory
from temporal_tenancy.core.errors import InvalidPayload, ScopeMissing, TenancyError, UnknownJob
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.payloads import read_message
from temporal_tenancy.core.scope import TenantScope, current_scope, enter
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import input_of_run, kept_input
from temporal_tenancy.dead_letters.sweep import settle
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.postgres.database_errors import LockHeld
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import own_run


class InputForgotten(TenancyError):
    """What the job was given is no longer known."""


class InputLocked(TenancyError):
    """What the job was given is locked by another transaction."""


class ReplayOutcome(StrEnum):
    """What replaying a dead letter came to."""

    REPLAYED = "replayed"  # its job has been started again
    RUNNING = "running"  # it was running already
    RESOLVED = "resolved"  # it has succeeded since, and was not started


@dataclass(frozen=True)
class Replay:
    """A dead letter's job, and the run that it has now."""

    outcome: ReplayOutcome
    run_id: str | None  # None: the server no longer knows the run that succeeded
    is_marked: bool = True  # False: the letter is locked, and does not say so yet


async def replay(client: Client, letter: DeadLetterRow, *, by: str) -> Replay:
    """Has a letter's job started again, and writes into the letter who wanted it, once it has been.

    In the block of a `use_database` and a `use_directory`, outside any tenant's scope. A replay
    that was cut off between the two finds the run that it has started.

    Raises:
        WorkflowIdTaken: something else has its id, and would keep it from being started.
        TenancyError: the tenant may not run the job now, the job is not known here, or its input
            does not fit it, cannot be read or is no longer known, or a tenant's code asks; nothing
            is started.
    """
    scope = current_scope()
    if isinstance(scope, TenantScope):
        raise ScopeMissing(f"{scope} replays no dead letters: that is for people to decide.")
    job = registry.get(letter.job)
    if job is None or job.kind != "tenant":
        raise UnknownJob(
            f"{letter.job!r} is not a job of tenants' here. Deploy the release that has it, or "
            "discard the letter."
        )
    found = await current_directory().find(letter.tenant_id)
    require_runnable(letter.tenant_id, found, job)
    if job.period is not None:
        # The server forgets closed runs; the ledger does not.
        async with platform_session("look up a run") as session:
            row = await ledger.row_of_workflow(session, letter.workflow_id)
        if row is not None and row.state == LedgerState.SUCCEEDED:
            await settle([letter], by)
            return Replay(ReplayOutcome.RESOLVED, row.run_id)
    job_input = await _input(client, letter, job)
    try:
        with enter(TenantScope(letter.tenant_id)):
            handle = await client.start_workflow(
                job.name,
                job_input,
                id=letter.workflow_id,
                task_queue=job.queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={"tenancy-replay-of": str(letter.id)},
            )
    except WorkflowAlreadyStartedError:
        return await _started_before(client, letter, by)
    run_id = str(handle.first_execution_run_id)
    return Replay(ReplayOutcome.REPLAYED, run_id, await _mark(letter, run_id, by))


async def _started_before(client: Client, letter: DeadLetterRow, by: str) -> Replay:
    described = await own_run(client, letter.workflow_id, letter.job)
    if described.status is WorkflowExecutionStatus.COMPLETED:
        await settle([letter], by)
        return Replay(ReplayOutcome.RESOLVED, described.run_id)
    is_marked = await _mark(letter, described.run_id, by)
    return Replay(ReplayOutcome.RUNNING, described.run_id, is_marked)


async def _mark(letter: DeadLetterRow, run_id: str, by: str) -> bool:
    """Returns whether the letter says now who had it replayed: a tenant may have it locked."""
    try:
        async with platform_session("mark a dead letter as replayed") as session:
            await letters.mark_replayed(session, letter, run_id, by)
    except LockHeld:
        return False
    return True


async def _input(client: Client, letter: DeadLetterRow, job: Job) -> Any:  # of the job's model
    """What the job was given: as it was kept, or else as the server still has it."""
    what = f"the input of {job.name}"
    try:
        kept = await kept_input(letter)
    except LockHeld:
        raise InputLocked(
            f"another transaction has locked {what} for {letter.tenant_id}, so it was not started. "
            "Try again; pg_locks says who holds it."
        ) from None
    values = None if kept is None else read_message(kept, what=what)
    if values is None and letter.run_id is not None:
        given = await if_known(input_of_run(client, letter.workflow_id, letter.run_id))
        values = None if given is None else given[0]
    if values is None:
        raise InputForgotten(
            f"the input of {letter.workflow_id} was not kept, and the server has forgotten it. "
            "Start the job anew, with its input."
        )
    if not isinstance(values, dict):
        raise InvalidPayload(f"{what} is not a JSON object.")
    # The letter's tenant and no other; the start checks it against an input that names one.
    return read_input(job.input_model, {"tenant_id": letter.tenant_id, **values}, what=what)

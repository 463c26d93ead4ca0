"""Replays a dead letter: starts its job again in its tenant, with its workflow id and input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import BaseModel
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState, LedgerState
from temporal_tenancy.core.directory import current_directory
from temporal_tenancy.core.errors import ScopeMissing, UnknownJob
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import TenantScope, current_scope, enter
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import InputForgotten as InputForgotten
from temporal_tenancy.dead_letters.inputs import input_of_letter, input_of_run
from temporal_tenancy.dead_letters.sweep import settle
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.postgres.database_errors import LockHeld
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import own_run_and_input, require_same_input

_OTHERWISE: Final = "The letter stays open: discard it, or request its input under another key."


class ReplayOutcome(StrEnum):
    """What a replay did."""

    REPLAYED = "replayed"  # the job was started again
    RUNNING = "running"  # the job was already running
    RESOLVED = "resolved"  # the job had succeeded since, as the letter may say, and was not started


@dataclass(frozen=True)
class Replay:
    """The result of a replay."""

    outcome: ReplayOutcome
    run_id: str | None  # of the job's run; None: it succeeded, and nobody looked for it
    is_marked: bool = True  # False: the letter was locked and does not record the replay yet


async def replay(client: Client, letter: DeadLetterRow, *, by: str) -> Replay:
    """Starts a letter's job again, then records in the letter who asked for it.

    Call it inside `use_database` and `use_directory`, outside any tenant's scope. It is safe to
    repeat: a replay that was interrupted after the start finds the run that it started. If a
    `TenancyError` is raised (all below but `RPCError`), nothing was started.

    Args:
        client: of the namespace in which the job runs.
        letter: what to replay.
        by: who asked for it; stored in the letter.

    Returns:
        What was done, and the job's run.

    Raises:
        WorkflowIdTaken: something else uses the job's workflow id.
        KeyReused: the job has succeeded since, or runs, with another input. The letter stays open.
        ScopeMissing: the caller is in a tenant's scope.
        UnknownJob: this process has no tenant job of that name.
        TenantUnknown, TenantSuspended, TenantOffboarding, FeatureNotEnabled: the tenant may not
            run the job now.
        InputForgotten: the input was not stored and the server no longer has it.
        InputLocked: another transaction has locked the input.
        InputAway: the tenant's own database, which keeps the input, does not answer.
        InvalidPayload, PayloadUnreadable: the input does not fit the job, or cannot be read.
        TenantMismatch: the input names another tenant.
        RPCError: the server does not answer.
    """
    scope = current_scope()
    if isinstance(scope, TenantScope):
        raise ScopeMissing(
            f"{scope} cannot replay dead letters. Replay them from outside a tenant's scope."
        )
    if letter.status == DeadLetterState.RESOLVED:
        # The server may have forgotten the run that succeeded, and would start another one.
        return Replay(ReplayOutcome.RESOLVED, None)
    job = registry.get(letter.job)
    if job is None or job.kind != "tenant":
        raise UnknownJob(
            f"this release has no tenant job {letter.job!r}. Deploy the release that has it, or "
            "discard the letter."
        )
    found = await current_directory().find(letter.tenant_id)
    require_runnable(letter.tenant_id, found, job)
    if job.period is not None:
        # The server forgets closed runs; the ledger does not.
        async with platform_session("look up a run") as session:
            row = await ledger.row_of_workflow(session, letter.workflow_id)
        if row is not None and row.state == LedgerState.SUCCEEDED:
            if row.run_id is not None:
                await _require_its_input(client, letter, job, row.run_id)
            await settle([letter], by)
            return Replay(ReplayOutcome.RESOLVED, row.run_id)
    job_input = await input_of_letter(client, letter, job)
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
        return await _started_before(client, letter, job_input, by)
    run_id = str(handle.first_execution_run_id)
    return Replay(ReplayOutcome.REPLAYED, run_id, await _mark(letter, run_id, by))


async def _started_before(
    client: Client, letter: DeadLetterRow, job_input: BaseModel, by: str
) -> Replay:
    described, given = await own_run_and_input(client, letter.workflow_id, letter.job)
    require_same_input(described, job_input, given, otherwise=_OTHERWISE)
    if described.status is WorkflowExecutionStatus.COMPLETED:
        await settle([letter], by)
        return Replay(ReplayOutcome.RESOLVED, described.run_id)
    is_marked = await _mark(letter, described.run_id, by)
    return Replay(ReplayOutcome.RUNNING, described.run_id, is_marked)


async def _require_its_input(client: Client, letter: DeadLetterRow, job: Job, run_id: str) -> None:
    """Raises `KeyReused` if the run that succeeded had another input than the letter's.

    What nobody knows any more is no difference.
    """
    handle = client.get_workflow_handle(letter.workflow_id, run_id=run_id)
    run = await if_known(handle.describe())
    had = await if_known(input_of_run(client, letter.workflow_id, run_id))
    if run is None or had is None:
        return
    try:
        job_input = await input_of_letter(client, letter, job)
    except InputForgotten:
        return
    require_same_input(run, job_input, had[0], otherwise=_OTHERWISE)


async def _mark(letter: DeadLetterRow, run_id: str, by: str) -> bool:
    """Records the replay in the letter; returns False if a tenant has locked the letter."""
    try:
        async with platform_session("mark a dead letter as replayed") as session:
            await letters.mark_replayed(session, letter, run_id, by)
    except LockHeld:
        return False
    return True

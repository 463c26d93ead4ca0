"""Finds failed runs without a dead letter in Temporal's visibility store, and settles letters.

A run that timed out, was terminated, or was refused before any of its code could not record one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.errors import (
    TenancyError,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
    TenantUnknown,
)
from temporal_tenancy.core.failures import message_of, root_cause, type_of
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import (
    InputForgotten,
    forget_inputs,
    input_of_letter,
    input_of_run,
)
from temporal_tenancy.dead_letters.letters import Settled
from temporal_tenancy.dead_letters.recording import Letter, Payload, Source, record
from temporal_tenancy.postgres.database import platform_session, tenant_session
from temporal_tenancy.postgres.database_errors import ROW_ERRORS, LockHeld, is_of_a_row, kind_of
from temporal_tenancy.postgres.lock_timeouts import BRIEF
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement, is_same_input
from temporal_tenancy.stores.errors import STORE_AWAY

NAME: Final = "dead_letters.sweep"  # of the job, of its position, and `handled_by` of letters
FIRST_LOOK: Final = timedelta(days=90)  # how far back the first sweep searches
SMALLEST: Final = timedelta(milliseconds=1)  # a window is not divided further
AT_ONCE: Final = 20  # concurrent requests to the server
SETTLED_KEPT: Final = timedelta(days=90)  # from settling a letter to deleting it
FORGOTTEN_AT_ONCE: Final = 1_000  # letters

_ENDED_BADLY: Final = (
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT,
    WorkflowExecutionStatus.TERMINATED,
)
# A start refused with one of these names no tenant reliably, so it belongs to no tenant.
_WRONG_START: Final = frozenset(e.__name__ for e in (TenantMissing, TenantInvalid, TenantMismatch))

log: Final = logging.getLogger(__name__)


class FailureUnreadable(TenancyError):
    """The run's failure cannot be decoded. Temporal's Web UI shows what is stored of it."""


@dataclass(frozen=True)
class SweepOptions:
    """The batch sizes of a sweep, and how far back it searches again."""

    window: int = 1_000  # runs examined together
    overlap: timedelta = timedelta(minutes=2)  # searched again, because visibility may lag
    ids_at_once: int = 50  # workflow ids in one query


@dataclass(frozen=True)
class Lost:
    """A run that failed permanently without a dead letter."""

    letter: Letter
    payload: Payload


class Sweep:
    """Finds, resolves and deletes dead letters. Use it inside `use_database`, as the platform."""

    def __init__(self, client: Client, options: SweepOptions | None = None) -> None:
        """
        Args:
            client: of the namespace in which the jobs run.
            options: batch sizes and overlap; None for the defaults.
        """
        self._client = client
        self._options = options or SweepOptions()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def find(self, now: datetime, *, until: float) -> int:
        """Records a letter for each run that has failed since the last sweep.

        Runs are read in the order in which they ended. If time runs out, the next sweep continues
        from there.

        Args:
            now: aware.
            until: when to stop, in seconds on the event loop's clock.

        Returns:
            How many letters were added or reopened.

        Raises:
            RPCError: the server does not answer.
        """
        async with platform_session("read how far dead letters were swept") as session:
            since = await letters.position(session, NAME) or now - FIRST_LOOK
        found, all_written = 0, True
        while since < now and asyncio.get_running_loop().time() < until:
            end = await self._end_of_window(since, now)
            written, in_full = await self._record(await self._lost(since, end))
            found += written
            all_written &= in_full
            if all_written:  # else the next sweep starts at this window and skips recorded runs
                async with platform_session("record how far dead letters were swept") as session:
                    await letters.move(session, NAME, min(end, now - self._options.overlap))
            since = end
        return found

    async def resolve(self) -> int:
        """Resolves the letters whose jobs have succeeded since with the letter's input.

        With another input the letter stays open, as its own request was never done.

        Returns:
            How many letters were resolved.

        Raises:
            RPCError: the server does not answer.
        """
        resolved, after, ids_at_once = 0, None, self._options.ids_at_once
        while True:
            async with platform_session("read dead letters") as session:
                page = await letters.unsettled(session, after=after, limit=ids_at_once)
            if not page:
                return resolved
            after = (page[-1].tenant_id, page[-1].id)
            done = await self._with_its_input(await self._succeeded(page))
            if done:
                resolved += await settle(done, NAME)

    async def forget(self, now: datetime) -> int:
        """Deletes up to 1,000 letters that were settled more than 90 days ago, with their inputs.

        Letters of a tenant that has locked some of the inputs are left for the next sweep.

        Args:
            now: aware.

        Returns:
            How many letters were deleted.
        """
        before = now - SETTLED_KEPT
        locked: set[str] = set()
        while True:
            async with platform_session("read settled dead letters") as session:
                old = await letters.settled_before(
                    session, before, but=locked, limit=FORGOTTEN_AT_ONCE
                )
            newly_locked = await _forget_inputs(old)
            free = [letter for letter in old if letter.tenant_id not in newly_locked]
            if free or not newly_locked:
                break
            locked |= newly_locked  # skip these tenants: others' letters may follow theirs
        async with platform_session("delete settled dead letters") as session:
            await letters.forget(session, free)
        return len(free)

    async def _end_of_window(self, since: datetime, until: datetime) -> datetime:
        """Returns the end of a window from `since` in which at most `window` runs have ended."""
        while until - since > SMALLEST:
            ended = await self._client.count_workflows(_closed(since, until))
            if ended.count <= self._options.window:
                break
            until = since + (until - since) / 2
        return until

    async def _lost(self, since: datetime, until: datetime) -> Sequence[Lost]:
        listed: dict[str, WorkflowExecution] = {}
        async for run in self._client.list_workflows(_closed(since, until)):
            if _is_a_tenants(run):
                listed[run.id] = max(run, listed.get(run.id, run), key=_ended)
        async with platform_session("read known dead letters") as session:
            known = await letters.known(session, list(listed))
        new = [run for run in listed.values() if not _is_known(run, known.get(run.id))]
        found = await asyncio.gather(*map(self._examine, new))
        return [lost for lost in found if lost is not None]

    async def _examine(self, listed: WorkflowExecution) -> Lost | None:
        """Returns the lost run; None if the server has forgotten it or it needs no letter."""
        async with self._slots:
            return await if_known(self._latest_run(listed))

    async def _latest_run(self, listed: WorkflowExecution) -> Lost | None:
        run = await self._client.get_workflow_handle(listed.id).describe()
        if not _is_own(run):  # something else uses the id now
            run = await self._client.get_workflow_handle(listed.id, run_id=listed.run_id).describe()
        if run.status not in _ENDED_BADLY:
            return None  # it was started again
        job_input, attempt = await input_of_run(self._client, run.id, run.run_id)
        failure = await self._failure_of(run)
        return None if failure is None else _lost(run, job_input, attempt, failure)

    async def _failure_of(self, run: WorkflowExecution) -> BaseException | None:
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        try:
            await handle.result(follow_runs=False)
        except WorkflowFailureError as error:
            return error.cause
        except RPCError:
            raise
        except Exception:  # from any payload converter or codec
            log.exception("dead_letter.unreadable", extra={"workflow_id": run.id})
            return FailureUnreadable()
        return None

    async def _record(self, lost: Sequence[Lost]) -> tuple[int, bool]:
        """Records letters tenant by tenant.

        Returns:
            How many are new, and whether all were recorded (False if a tenant held a lock, or its
            own database did not answer).
        """
        by_tenant = defaultdict(list)
        for run in lost:
            by_tenant[WorkflowId.parse(run.letter.workflow_id).owner].append(run)
        new, in_full = 0, True
        for tenant, runs in by_tenant.items():
            try:
                with enter(TenantScope(tenant)):
                    for run in runs:
                        new += await _recorded(run)
            except LockHeld:
                log.warning("dead_letters.locked", extra={"tenant_id": tenant})
                in_full = False
            except STORE_AWAY as error:
                kind = type(error).__name__
                log.warning(
                    "dead_letters.store_away", extra={"tenant_id": tenant, "error_type": kind}
                )
                in_full = False
        return new, in_full

    async def _succeeded(
        self, page: Sequence[DeadLetterRow]
    ) -> Sequence[tuple[DeadLetterRow, Sequence[WorkflowExecution]]]:
        """Returns the letters whose workflow has completed since it failed, with these runs."""
        quotable = [letter.workflow_id for letter in page if _is_quotable(letter.workflow_id)]
        completed: defaultdict[str, list[WorkflowExecution]] = defaultdict(list)
        if quotable:
            quoted = ", ".join(f"'{workflow_id}'" for workflow_id in quotable)
            query = f"ExecutionStatus = 'Completed' AND WorkflowId IN ({quoted})"
            async for run in self._client.list_workflows(query):
                if _is_own(run):
                    completed[run.id].append(run)
        for letter in page:
            if letter.workflow_id not in quotable:
                completed[letter.workflow_id] = await self._completed(letter.workflow_id)
        found = []
        for letter in page:
            runs = completed[letter.workflow_id]
            since = [run for run in runs if _ended(run) > letter.failed_at]
            if since:
                found.append((letter, since))
        return found

    async def _completed(self, workflow_id: str) -> list[WorkflowExecution]:
        run = await if_known(self._client.get_workflow_handle(workflow_id).describe())
        if run is None or run.status is not WorkflowExecutionStatus.COMPLETED or not _is_own(run):
            return []
        return [run]

    async def _with_its_input(
        self, succeeded: Sequence[tuple[DeadLetterRow, Sequence[WorkflowExecution]]]
    ) -> Sequence[DeadLetterRow]:
        same = await asyncio.gather(*(self._had_its_input(*each) for each in succeeded))
        return [letter for (letter, _), had in zip(succeeded, same, strict=True) if had]

    async def _had_its_input(
        self, letter: DeadLetterRow, runs: Sequence[WorkflowExecution]
    ) -> bool:
        """Whether one of the runs had the letter's input; what is forgotten is no difference."""
        job = registry.get(letter.job)
        if job is None:
            return False  # nothing here can read it
        async with self._slots:
            had = [await if_known(input_of_run(self._client, run.id, run.run_id)) for run in runs]
            known = [each[0] for each in had if each is not None]
            if len(known) < len(runs):
                return True
            try:
                wanted = await input_of_letter(self._client, letter, job)
            except InputForgotten:
                return True
            except TenancyError:  # it cannot be read, or is locked until the next sweep
                return False
        return any(is_same_input(wanted, each) for each in known)


async def _recorded(lost: Lost) -> bool:
    """Records one letter, without its input if the database rejects that; returns if it is new.

    If the database rejects the letter too, it is logged and skipped, and the others go ahead.
    """
    for payload in (lost.payload, None):
        try:
            async with tenant_session(limits=BRIEF) as session:
                return await record(session, lost.letter, payload)
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            log.error(
                "dead_letter.refused",
                extra={"workflow_id": lost.letter.workflow_id, "error_type": kind_of(error)},
            )
    return False


async def settle(done: Sequence[DeadLetterRow], by: str) -> int:
    """Resolves letters whose jobs have succeeded, and deletes their inputs.

    Args:
        done: the letters.
        by: who found that the jobs have succeeded; stored in the letters.

    Returns:
        How many were resolved; letters that another transaction has locked are skipped.
    """
    async with platform_session("resolve dead letters") as session:
        resolved = await letters.resolve(session, done, by)
    await _forget_inputs(done)  # a locked input is deleted later, with its letter
    return resolved


async def _forget_inputs(settled: Sequence[DeadLetterRow | Settled]) -> set[str]:
    """Deletes the inputs of letters; returns the tenants that have locked some of theirs."""
    inputs = defaultdict(list)
    for letter in settled:
        if letter.message_id is not None:
            inputs[letter.tenant_id].append(letter.message_id)
    return {
        tenant
        for tenant, message_ids in inputs.items()
        if not await forget_inputs(tenant, message_ids)
    }


def _closed(since: datetime, until: datetime) -> str:
    statuses = "'Failed', 'TimedOut', 'Terminated'"
    return (
        f"ExecutionStatus IN ({statuses}) AND CloseTime > '{_as_text(since)}' "
        f"AND CloseTime <= '{_as_text(until)}'"
    )


def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_a_tenants(run: WorkflowExecution) -> bool:
    """Whether a run looks like a tenant's job; a workflow of coalesced messages does not."""
    try:
        parts = WorkflowId.parse(run.id)
    except TenancyError:
        return False
    return parts.tenant is not None and run.workflow_type == parts.job


def _is_own(run: WorkflowExecution) -> bool:
    """Whether a run is of the job that its id names; something else may use the id."""
    return disagreement(run, WorkflowId.parse(run.id).job) is None


def _is_known(run: WorkflowExecution, letter: tuple[str | None, datetime] | None) -> bool:
    return letter is not None and (letter[0] == run.run_id or letter[1] >= _ended(run))


def _lost(
    run: WorkflowExecution, job_input: Any, attempt: int, error: BaseException
) -> Lost | None:
    parts = WorkflowId.parse(run.id)
    if not isinstance(job_input, dict) or job_input.get("tenant_id") != parts.owner:
        return None  # the input does not name the tenant, so it is not certain whose run it is
    cause = root_cause(error)
    kind = type_of(cause)
    refused = isinstance(error, ApplicationError) and kind in _WRONG_START
    if refused or kind == TenantUnknown.__name__:
        return None
    letter = Letter(
        run.id,
        Source.WORKFLOW,
        kind,
        message_of(cause),
        attempt,
        run_id=run.run_id,
        failed_at=_ended(run),
    )
    return Lost(letter, {name: value for name, value in job_input.items() if name != "tenant_id"})


def _ended(run: WorkflowExecution) -> datetime:
    return run.close_time or run.start_time


def _is_quotable(workflow_id: str) -> bool:
    """Whether an id is a valid workflow id that needs no escaping in a visibility query."""
    try:
        WorkflowId.parse(workflow_id)
    except TenancyError:
        return False
    return "'" not in workflow_id and "\\" not in workflow_id

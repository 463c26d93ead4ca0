"""Finding the dead letters that no workflow could write itself, in Temporal's visibility.

A run that timed out, was terminated, or was refused before any of its code says nothing.
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

from temporal_tenancy.control_plane.models import DeadLetterRow
from temporal_tenancy.core.errors import (
    TenancyError,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
    TenantUnknown,
)
from temporal_tenancy.core.failures import message_of, root_cause, type_of
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import forget_inputs, input_of_run
from temporal_tenancy.dead_letters.letters import Settled
from temporal_tenancy.dead_letters.recording import Letter, Payload, Source, record
from temporal_tenancy.postgres.database import platform_session, tenant_session
from temporal_tenancy.postgres.database_errors import ROW_ERRORS, LockHeld, is_of_a_row, kind_of
from temporal_tenancy.postgres.lock_timeouts import BRIEF
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement

NAME: Final = "dead_letters.sweep"  # also of the position, and who resolves
FIRST_LOOK: Final = timedelta(days=90)  # how far back it goes at first
SMALLEST: Final = timedelta(milliseconds=1)  # a window is not divided further
AT_ONCE: Final = 20  # questions to the server
SETTLED_KEPT: Final = timedelta(days=90)
FORGOTTEN_AT_ONCE: Final = 1_000  # letters

_ENDED_BADLY: Final = (
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT,
    WorkflowExecutionStatus.TERMINATED,
)
# A start that was refused because it names no tenant for sure was nobody's job.
_WRONG_START: Final = frozenset(e.__name__ for e in (TenantMissing, TenantInvalid, TenantMismatch))

log: Final = logging.getLogger(__name__)


class FailureUnreadable(TenancyError):
    """Why the run failed cannot be read. Temporal's Web UI shows what it has of it."""


@dataclass(frozen=True)
class SweepOptions:
    """How much a sweep looks at together, and how far back."""

    window: int = 1_000  # runs
    overlap: timedelta = timedelta(minutes=2)  # visibility may lag behind by so much
    ids_at_once: int = 50  # workflow ids in one query


@dataclass(frozen=True)
class Lost:
    """A run that has failed for good without a dead letter."""

    letter: Letter
    payload: Payload


class Sweep:
    """Sweeps in the block of a `use_database`, as the platform."""

    def __init__(self, client: Client, options: SweepOptions | None = None) -> None:
        """
        Args:
            client: of the namespace in which the jobs run.
            options: how much is looked at together.
        """
        self._client = client
        self._options = options or SweepOptions()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def find(self, now: datetime, *, until: float) -> int:
        """Writes a letter for each run that has failed since the last time; returns how many.

        In the order in which they ended, and until `until` on the event loop's clock: the next
        time goes on from there.
        """
        async with platform_session("read how far dead letters were swept") as session:
            since = await letters.position(session, NAME) or now - FIRST_LOOK
        found, all_written = 0, True
        while since < now and asyncio.get_running_loop().time() < until:
            end = await self._end_of_window(since, now)
            written, in_full = await self._record(await self._lost(since, end))
            found += written
            all_written &= in_full
            if all_written:  # else the next time begins at this window, and knows what is written
                async with platform_session("note how far dead letters were swept") as session:
                    await letters.move(session, NAME, min(end, now - self._options.overlap))
            since = end
        return found

    async def resolve(self) -> int:
        """Settles the letters whose job has succeeded since; returns how many."""
        resolved, after, ids_at_once = 0, None, self._options.ids_at_once
        while True:
            async with platform_session("read dead letters") as session:
                page = await letters.unsettled(session, after=after, limit=ids_at_once)
            if not page:
                return resolved
            after = (page[-1].tenant_id, page[-1].id)
            done = await self._succeeded(page)
            if done:
                resolved += await settle(done, NAME)

    async def forget(self, now: datetime) -> int:
        """Deletes letters that were settled long ago, with their inputs; returns how many."""
        before = now - SETTLED_KEPT
        locked: set[str] = set()
        while True:
            async with platform_session("read settled dead letters") as session:
                old = await letters.settled_before(
                    session, before, but=locked, limit=FORGOTTEN_AT_ONCE
                )
            found = await _forget_inputs(old)
            free = [each for each in old if each.tenant_id not in found]
            if free or not found:
                break
            locked |= found  # theirs wait, and there may be others' behind them
        async with platform_session("forget settled dead letters") as session:
            await letters.forget(session, free)
        return len(free)

    async def _end_of_window(self, since: datetime, until: datetime) -> datetime:
        """The end of a window in which no more have ended than are looked at together."""
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
        return [each for each in found if each is not None]

    async def _examine(self, listed: WorkflowExecution) -> Lost | None:
        """What has become of a workflow; None: it is forgotten, or nothing that a letter is for."""
        async with self._slots:
            return await if_known(self._latest_run(listed))

    async def _latest_run(self, listed: WorkflowExecution) -> Lost | None:
        run = await self._client.get_workflow_handle(listed.id).describe()
        if not _is_own(run):  # something else has taken the id since
            run = await self._client.get_workflow_handle(listed.id, run_id=listed.run_id).describe()
        if run.status not in _ENDED_BADLY:
            return None  # it was started again
        given, attempt = await input_of_run(self._client, run.id, run.run_id)
        failure = await self._failure_of(run)
        return None if failure is None else _lost(run, given, attempt, failure)

    async def _failure_of(self, run: WorkflowExecution) -> BaseException | None:
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        try:
            await handle.result(follow_runs=False)
        except WorkflowFailureError as error:
            return error.cause
        except RPCError:
            raise
        except Exception:  # of whatever decodes it
            log.exception("dead_letter.unreadable", extra={"workflow_id": run.id})
            return FailureUnreadable()
        return None

    async def _record(self, lost: Sequence[Lost]) -> tuple[int, bool]:
        """Writes letters tenant by tenant; returns how many are new, and whether all are there."""
        by_tenant = defaultdict(list)
        for each in lost:
            by_tenant[WorkflowId.parse(each.letter.workflow_id).owner].append(each)
        new, in_full = 0, True
        for tenant, its_own in by_tenant.items():
            try:
                with enter(TenantScope(tenant)):
                    for each in its_own:
                        new += await _recorded(each)
            except LockHeld:
                log.warning("dead_letters.locked", extra={"tenant_id": tenant})
                in_full = False
        return new, in_full

    async def _succeeded(self, page: Sequence[DeadLetterRow]) -> Sequence[DeadLetterRow]:
        """Those of the letters whose workflow has completed after it failed."""
        plain = [each.workflow_id for each in page if _is_plain(each.workflow_id)]
        completed: dict[str, datetime] = {}
        if plain:
            quoted = ", ".join(f"'{workflow_id}'" for workflow_id in plain)
            query = f"ExecutionStatus = 'Completed' AND WorkflowId IN ({quoted})"
            async for run in self._client.list_workflows(query):
                if _is_own(run):
                    completed[run.id] = max(_ended(run), completed.get(run.id, _ended(run)))
        for each in page:
            if each.workflow_id not in plain:
                completed |= await self._completed(each.workflow_id)
        return [
            each
            for each in page
            if each.workflow_id in completed and completed[each.workflow_id] > each.failed_at
        ]

    async def _completed(self, workflow_id: str) -> dict[str, datetime]:
        run = await if_known(self._client.get_workflow_handle(workflow_id).describe())
        if run is None or run.status is not WorkflowExecutionStatus.COMPLETED or not _is_own(run):
            return {}
        return {workflow_id: _ended(run)}


async def _recorded(lost: Lost) -> bool:
    """Writes one letter; whatever the database has against it or its input is its own trouble."""
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
    """Resolves letters whose jobs have succeeded, and forgets their inputs; returns how many."""
    async with platform_session("resolve dead letters") as session:
        resolved = await letters.resolve(session, done, by)
    await _forget_inputs(done)  # an input that is locked goes with its letter
    return resolved


async def _forget_inputs(settled: Sequence[DeadLetterRow | Settled]) -> set[str]:
    """Deletes the inputs of letters; returns the tenants whose are locked."""
    inputs = defaultdict(list)
    for each in settled:
        if each.message_id is not None:
            inputs[each.tenant_id].append(each.message_id)
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
    """Whether a run looks like a tenant's job; what works off its messages is named otherwise."""
    try:
        parts = WorkflowId.parse(run.id)
    except TenancyError:
        return False
    return parts.tenant is not None and run.workflow_type == parts.job


def _is_own(run: WorkflowExecution) -> bool:
    """Whether a run is of the job that its id names, and not of whoever has taken the id."""
    return disagreement(run, WorkflowId.parse(run.id).job) is None


def _is_known(run: WorkflowExecution, letter: tuple[str | None, datetime] | None) -> bool:
    return letter is not None and (letter[0] == run.run_id or letter[1] >= _ended(run))


def _lost(run: WorkflowExecution, given: Any, attempt: int, error: BaseException) -> Lost | None:
    parts = WorkflowId.parse(run.id)
    if not isinstance(given, dict) or given.get("tenant_id") != parts.owner:
        return None  # nobody's, for sure
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
    return Lost(letter, {name: value for name, value in given.items() if name != "tenant_id"})


def _ended(run: WorkflowExecution) -> datetime:
    return run.close_time or run.start_time


def _is_plain(workflow_id: str) -> bool:
    """Whether an id is one, and can be quoted in a query."""
    try:
        WorkflowId.parse(workflow_id)
    except TenancyError:
        return False
    return "'" not in workflow_id and "\\" not in workflow_id

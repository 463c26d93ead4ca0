"""Starts the jobs of one or many dead letters again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from rich.console import RenderableType
from temporalio.client import WorkflowFailureError
from temporalio.common import RawValue
from temporalio.service import RPCError

from temporal_tenancy.cli._following import Handle, result_of, waiting_for
from temporal_tenancy.cli._not_reachable import AWAY
from temporal_tenancy.cli._server_access import Servers, as_platform, servers
from temporal_tenancy.cli._waiting import problem_of, warn_without_worker
from temporal_tenancy.cli.answers import Answer, Problem, address, lines, when, whole
from temporal_tenancy.cli.dead_letters import SHOWN, chosen, operator
from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.failures import message_of, root_cause, storable, type_of
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters.fingerprints import fingerprint
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.replaying import ReplayOutcome, replay
from temporal_tenancy.dead_letters.sweep import settle
from temporal_tenancy.sdk.lost_connections import is_connection_lost

AT_ONCE: Final = 10  # starts
REFUSED: Final = "refused"
HELD_BACK: Final = "held back"
SUCCEEDED: Final = "succeeded"
FAILED_AGAIN: Final = "failed again"
FAILED_OTHERWISE: Final = "failed otherwise"
ENDS: Final = (SUCCEEDED, FAILED_AGAIN, FAILED_OTHERWISE)
STARTED: Final = (ReplayOutcome.REPLAYED, ReplayOutcome.RUNNING)
OUTCOMES: Final = (*(outcome.value for outcome in ReplayOutcome), REFUSED, HELD_BACK)


class NotTaken(TenancyError):
    """The Temporal server rejects the start."""


@dataclass(frozen=True)
class Handled:
    """The result of replaying one letter."""

    letter: DeadLetterRow
    outcome: str  # one of OUTCOMES
    run_id: str | None = None
    why: TenancyError | None = None  # why it was refused
    is_canary: bool = False
    ended: str | None = None  # how the run ended, if it was waited for
    failure: str | None = None  # why it failed, if it did
    is_marked: bool = True  # whether the letter was marked as replayed

    @property
    def canary(self) -> str | None:
        """How the run ended, if it was a canary."""
        return self.ended if self.is_canary else None


async def start_again(
    ids: Sequence[str],
    where: Filter,
    *,
    canary: bool,
    wait: bool,
    by: str | None,
    quiet: bool,
) -> Answer:
    """Replays the letters of these ids, or the open ones that match a filter.

    With `wait`, waits until every job has ended; one that fails is a problem of the answer.

    Raises:
        FilterMissing: the command has neither ids nor a filter.
        DeadLetterUnknown: an id is not a letter's.
        DeadLetterAmbiguous: several tenants have a letter with one of the ids.
        TenancyError: the only id is of a letter that cannot be replayed now.
    """
    async with servers() as connections:
        with as_platform(connections.database):
            chosen_letters = await chosen(ids, where)
            replays = Replays(connections, by or operator(), quiet=quiet)
            handled = await (
                replays.with_canaries(chosen_letters) if canary else replays.all(chosen_letters)
            )
            if wait and not (len(ids) == 1 and handled[0].why is not None):
                handled = await replays.ended(handled)
        if len(ids) == 1 and handled[0].why is not None:
            raise handled[0].why
        return _answer(connections, handled)


class Replays:
    """Replays letters for one operator."""

    def __init__(self, connections: Servers, by: str, *, quiet: bool) -> None:
        self._connections = connections
        self._by = by
        self._quiet = quiet
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._warned: set[str] = set()  # queues
        self._said = 0  # runs that are waited for

    async def all(self, letters: Sequence[DeadLetterRow]) -> Sequence[Handled]:
        """Replays each letter; a refused one does not stop the others."""
        return await asyncio.gather(*map(self._one, letters))

    async def with_canaries(self, letters: Sequence[DeadLetterRow]) -> Sequence[Handled]:
        """Replays one letter of each tenant, then its others unless the first failed again.

        Tenants do not wait for each other.
        """
        by_tenant = [list(its) for _, its in groupby(letters, key=lambda each: each.tenant_id)]
        done = await asyncio.gather(*map(self._tenant, by_tenant))
        return [each for its in done for each in its]

    async def ended(self, handled: Sequence[Handled]) -> Sequence[Handled]:
        """Waits until the runs of the replayed letters have ended."""
        open_runs = [each for each in handled if each.outcome in STARTED and each.ended is None]
        quiet = self._quiet or len(open_runs) > 1
        ended = await asyncio.gather(*(self._watched(each, quiet=quiet) for each in open_runs))
        by_id = {(each.letter.tenant_id, each.letter.id): each for each in ended}
        return [by_id.get((each.letter.tenant_id, each.letter.id), each) for each in handled]

    async def _tenant(self, its: Sequence[DeadLetterRow]) -> Sequence[Handled]:
        handled: list[Handled] = []
        for position, letter in enumerate(its):
            first = await self._one(letter)
            if first.outcome in STARTED:
                first = replace(await self._watched(first, quiet=True), is_canary=True)
            handled.append(first)
            if first.ended == FAILED_AGAIN:
                return [*handled, *(Handled(each, HELD_BACK) for each in its[position + 1 :])]
            if first.ended is not None:
                return [*handled, *await self.all(its[position + 1 :])]
            # A letter that was refused or had succeeded says nothing about the others.
        return handled

    async def _one(self, letter: DeadLetterRow) -> Handled:
        async with self._slots:
            try:
                done = await replay(self._connections.client, letter, by=self._by)
            except TenancyError as error:
                return Handled(letter, REFUSED, why=error)
            except RPCError as error:
                if error.status in AWAY or is_connection_lost(error):
                    raise
                why = NotTaken(f"the Temporal server rejected the start: {error.message}.")
                return Handled(letter, REFUSED, why=why)
            return Handled(letter, done.outcome.value, done.run_id, is_marked=done.is_marked)

    async def _watched(self, started: Handled, *, quiet: bool) -> Handled:
        letter, client = started.letter, self._connections.client
        # Left undecoded, because decoding may fail.
        handle: Handle = client.get_workflow_handle(
            letter.workflow_id, run_id=started.run_id, result_type=RawValue
        )
        try:
            with self._waiting_for(started):
                await self._warn_without_worker(registry.get_or_raise(letter.job).queue)
                await result_of(client, handle, quiet=quiet)
        except WorkflowFailureError as error:
            cause = root_cause(error.cause)
            kind = fingerprint(
                letter.job,
                storable(type_of(cause)),
                storable(message_of(cause)),
                tenant_id=letter.tenant_id,
            )
            is_same = kind == letter.fingerprint
            return replace(
                started,
                ended=FAILED_AGAIN if is_same else FAILED_OTHERWISE,
                failure=str(problem_of(error)),
            )
        await settle([letter], self._by)
        return replace(started, ended=SUCCEEDED)

    def _waiting_for(self, started: Handled) -> AbstractContextManager[None]:
        """Says which run is waited for; of many only the first, as the letters keep them all."""
        self._said += 1
        if self._said > SHOWN:
            return nullcontext()
        letter = started.letter
        stands = (
            "is running already." if started.outcome == ReplayOutcome.RUNNING else "has started."
        )
        url = self._connections.link(letter.workflow_id, started.run_id)
        return waiting_for(letter.workflow_id, stands, url, quiet=self._quiet)

    async def _warn_without_worker(self, queue: str) -> None:
        if queue not in self._warned:
            self._warned.add(queue)
            await warn_without_worker(self._connections.client, queue)


def _answer(connections: Servers, handled: Sequence[Handled]) -> Answer:
    counted = Counter(each.outcome for each in handled)
    counts = {outcome.replace(" ", "_"): counted[outcome] for outcome in OUTCOMES}
    document = {
        "matched": len(handled),
        **counts,
        "letters": [_document(connections, each) for each in handled],
    }
    totals = [f"{counted[outcome]:,} {outcome}" for outcome in OUTCOMES if counted[outcome]]
    ends = Counter(each.ended for each in handled if each.ended is not None)
    totals += [f"{ends[end]:,} {end}" for end in ENDS if ends[end]]
    text: list[RenderableType | None] = [
        f"{number(len(handled), 'dead letter')}: {', '.join(totals)}."
        if handled
        else "No dead letter matches."
    ]
    for each in handled[:SHOWN]:
        # Its id and its address were said when it began; of several, the id says whose end it is.
        if each.ended == SUCCEEDED and len(handled) == 1:
            continue
        url = None
        if each.run_id and each.ended != SUCCEEDED:
            url = connections.link(each.letter.workflow_id, each.run_id)
        text.append(address(url, whole(each.letter.workflow_id), _outcome_of(each)))
    if len(handled) > SHOWN:
        text.append(f"and {len(handled) - SHOWN:,} more; --json shows all.")
    return Answer(document, lines(*text), _problem(handled))


_UNMARKED: Final = "another transaction locks its letter; repeat the command to mark it"


def _outcome_of(handled: Handled) -> str:
    if handled.why is not None:
        return f"refused. {with_hint(handled.why.sentence)}"
    if handled.outcome == ReplayOutcome.RESOLVED:
        return _not_run(handled.letter)
    outcome = handled.outcome if handled.ended is None else f"{handled.outcome}, {handled.ended}"
    if handled.failure is not None:
        outcome = f"{outcome}: {handled.failure}"
    return outcome if handled.is_marked else f"{outcome}; {_UNMARKED}"


def _not_run(letter: DeadLetterRow) -> str:
    """Returns what became of a letter whose job has succeeded since it failed."""
    if letter.status != DeadLetterState.RESOLVED:
        return "nothing was run: the job has succeeded since, so the letter is resolved now."
    since = f" since {when(letter.handled_at)}" if letter.handled_at else ""
    by = f", by {letter.handled_by}" if letter.handled_by else ""
    return f"nothing was run: the letter is resolved{since}{by}."


def _document(connections: Servers, handled: Handled) -> dict[str, Any]:
    letter = handled.letter
    return {
        "id": str(letter.id),
        "tenant_id": letter.tenant_id,
        "job": letter.job,
        "workflow_id": letter.workflow_id,
        "run_id": handled.run_id,
        "url": connections.link(letter.workflow_id, handled.run_id) if handled.run_id else None,
        "outcome": handled.outcome,
        "canary": handled.canary,
        "ended": handled.ended,
        "failure": handled.failure,
        "marked": handled.is_marked,
        "reason": None if handled.why is None else with_hint(handled.why.sentence),
    }


def _problem(handled: Sequence[Handled]) -> Problem | None:
    again = sorted({each.letter.tenant_id for each in handled if each.canary == FAILED_AGAIN})
    if again:
        held = sum(each.outcome == HELD_BACK for each in handled)
        return Problem(
            "CanaryFailed",
            f"the first replay of {', '.join(again)} failed in the same way, so "
            f"{number(held, 'other letter was', 'other letters were')} not replayed. Fix the "
            "cause first.",
        )
    otherwise = [each for each in handled if each.canary == FAILED_OTHERWISE]
    if otherwise:
        return Problem(
            "CanaryFailed",
            f"the first replay of {otherwise[0].letter.tenant_id} failed in another way than "
            "before; its letter is open again.",
        )
    failed = [each for each in handled if each.failure is not None]
    if failed:
        return Problem(
            "ReplayFailed",
            f"{number(len(failed), 'replay')} failed. The first, of "
            f"{failed[0].letter.workflow_id}: {failed[0].failure}",
        )
    refused = [each for each in handled if each.why is not None]
    if refused:
        first = refused[0].why
        assert first is not None
        return Problem(
            "ReplayRefused",
            f"{number(len(refused), 'dead letter')} could not be replayed. The first: "
            f"{with_hint(first.sentence)}",
        )
    return None

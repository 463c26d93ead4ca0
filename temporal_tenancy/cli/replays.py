"""Starting the jobs of dead letters again, one or many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from rich.console import RenderableType
from temporalio.client import WorkflowFailureError
from temporalio.common import RawValue
from temporalio.service import RPCError

from temporal_tenancy.cli._not_reachable import AWAY
from temporal_tenancy.cli._server_access import Servers, as_platform, servers
from temporal_tenancy.cli._waiting import warn_without_worker
from temporal_tenancy.cli.answers import Answer, Problem, address, lines, number
from temporal_tenancy.cli.dead_letters import SHOWN, chosen, operator
from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.failures import message_of, root_cause, storable, type_of
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.dead_letters.fingerprints import fingerprint
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.replaying import ReplayOutcome, replay
from temporal_tenancy.dead_letters.sweep import settle

AT_ONCE: Final = 10  # starts
REFUSED: Final = "refused"
HELD_BACK: Final = "held back"
SUCCEEDED: Final = "succeeded"
FAILED_AGAIN: Final = "failed again"
FAILED_OTHERWISE: Final = "failed otherwise"
OUTCOMES: Final = (*(outcome.value for outcome in ReplayOutcome), REFUSED, HELD_BACK)


class NotTaken(TenancyError):
    """The Temporal server does not take the start."""


@dataclass(frozen=True)
class Handled:
    """What became of a letter."""

    letter: DeadLetterRow
    outcome: str  # one of OUTCOMES
    run_id: str | None = None
    why: TenancyError | None = None  # why it was refused
    canary: str | None = None  # how it ended, if it was the one waited for
    is_marked: bool = True  # whether the letter was marked as replayed


async def start_again(
    given: Sequence[str], where: Filter, *, canary: bool, by: str | None
) -> Answer:
    """Replays the letters of these ids, or the open ones that match a filter.

    Raises:
        FilterMissing: neither ids nor a filter narrow them down.
        DeadLetterUnknown, DeadLetterAmbiguous: one of the ids is none, or several tenants'.
        TenancyError: the only letter that was named cannot be replayed now.
    """
    async with servers() as there:
        with as_platform(there.database):
            found = await chosen(given, where)
            replays = Replays(there, by or operator())
            handled = await (replays.with_canaries(found) if canary else replays.all(found))
        if len(given) == 1 and handled[0].why is not None:
            raise handled[0].why
        return _answer(there, handled)


class Replays:
    """Replays letters for one operator."""

    def __init__(self, there: Servers, by: str) -> None:
        self._there = there
        self._by = by
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def all(self, found: Sequence[DeadLetterRow]) -> Sequence[Handled]:
        """Replays each; one that is refused does not stop the others."""
        return await asyncio.gather(*map(self._one, found))

    async def with_canaries(self, found: Sequence[DeadLetterRow]) -> Sequence[Handled]:
        """Replays one of each tenant's letters, then the others unless that one failed again.

        Tenants do not wait for one another.
        """
        by_tenant = [list(its) for _, its in groupby(found, key=lambda each: each.tenant_id)]
        done = await asyncio.gather(*map(self._tenant, by_tenant))
        return [each for its in done for each in its]

    async def _tenant(self, its: Sequence[DeadLetterRow]) -> Sequence[Handled]:
        handled: list[Handled] = []
        for position, letter in enumerate(its):
            first = await self._one(letter)
            if first.outcome in (ReplayOutcome.REPLAYED, ReplayOutcome.RUNNING):
                first = await self._watched(first)
            handled.append(first)
            if first.canary == FAILED_AGAIN:
                return [*handled, *(Handled(each, HELD_BACK) for each in its[position + 1 :])]
            if first.canary is not None:
                return [*handled, *await self.all(its[position + 1 :])]
            # A letter that was refused, or had succeeded, tells nothing about the others.
        return handled

    async def _one(self, letter: DeadLetterRow) -> Handled:
        async with self._slots:
            try:
                done = await replay(self._there.client, letter, by=self._by)
            except TenancyError as error:
                return Handled(letter, REFUSED, why=error)
            except RPCError as error:
                if error.status in AWAY:
                    raise
                why = NotTaken(f"the Temporal server says of it: {error.message}.")
                return Handled(letter, REFUSED, why=why)
            return Handled(letter, done.outcome.value, done.run_id, is_marked=done.is_marked)

    async def _watched(self, started: Handled) -> Handled:
        letter = started.letter
        await warn_without_worker(self._there.client, registry.get_or_raise(letter.job).queue)
        # The result is left undecoded: it may not be decodable.
        handle = self._there.client.get_workflow_handle(
            letter.workflow_id, run_id=started.run_id, result_type=RawValue
        )
        try:
            await handle.result()
        except WorkflowFailureError as error:
            cause = root_cause(error.cause)
            kind = fingerprint(
                letter.job,
                storable(type_of(cause)),
                storable(message_of(cause)),
                tenant_id=letter.tenant_id,
            )
            again = kind == letter.fingerprint
            return replace(started, canary=FAILED_AGAIN if again else FAILED_OTHERWISE)
        await settle([letter], self._by)
        return replace(started, canary=SUCCEEDED)


def _answer(there: Servers, handled: Sequence[Handled]) -> Answer:
    counted = Counter(each.outcome for each in handled)
    counts = {outcome.replace(" ", "_"): counted[outcome] for outcome in OUTCOMES}
    document = {
        "matched": len(handled),
        **counts,
        "letters": [_document(there, each) for each in handled],
    }
    said = [f"{counted[outcome]:,} {outcome}" for outcome in OUTCOMES if counted[outcome]]
    text: list[RenderableType | None] = [
        f"{number(len(handled), 'dead letter')}: {', '.join(said)}."
        if handled
        else "No dead letter is meant."
    ]
    for each in handled[:SHOWN]:
        url = there.link(each.letter.workflow_id, each.run_id) if each.run_id else None
        text.append(address(url, each.letter.workflow_id, _said(each)))
    if len(handled) > SHOWN:
        text.append(f"and {len(handled) - SHOWN:,} more; --json has all.")
    return Answer(document, lines(*text), _problem(handled))


_UNMARKED: Final = (
    "its letter is locked by another transaction, and says so once this is done again"
)


def _said(each: Handled) -> str:
    if each.why is not None:
        return f"refused. {with_hint(each.why.sentence)}"
    said = each.outcome if each.canary is None else f"{each.outcome}, {each.canary}"
    return said if each.is_marked else f"{said}; {_UNMARKED}"


def _document(there: Servers, each: Handled) -> dict[str, Any]:
    letter = each.letter
    return {
        "id": str(letter.id),
        "tenant_id": letter.tenant_id,
        "job": letter.job,
        "workflow_id": letter.workflow_id,
        "run_id": each.run_id,
        "url": there.link(letter.workflow_id, each.run_id) if each.run_id else None,
        "outcome": each.outcome,
        "canary": each.canary,
        "marked": each.is_marked,
        "reason": None if each.why is None else with_hint(each.why.sentence),
    }


def _problem(handled: Sequence[Handled]) -> Problem | None:
    again = sorted({each.letter.tenant_id for each in handled if each.canary == FAILED_AGAIN})
    if again:
        held = sum(each.outcome == HELD_BACK for each in handled)
        return Problem(
            "CanaryFailed",
            f"the first replay of {', '.join(again)} failed in the same way, so "
            f"{number(held, 'other letter')} of theirs {'was' if held == 1 else 'were'} not "
            "replayed. Mend the cause first.",
        )
    otherwise = [each for each in handled if each.canary == FAILED_OTHERWISE]
    if otherwise:
        return Problem(
            "CanaryFailed",
            f"the first replay of {otherwise[0].letter.tenant_id} failed in another way than "
            "before; its letter is open again.",
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

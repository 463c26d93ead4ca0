"""Explains a failed run, and warns about a run that no worker can start."""

from __future__ import annotations

from temporalio.client import Client, WorkflowFailureError

from temporal_tenancy.cli._workers import has_worker, no_worker
from temporal_tenancy.cli.answers import Problem, say
from temporal_tenancy.cli.program import message_with_hint
from temporal_tenancy.core.failures import root_cause, sentence_of, type_of


def problem_of(error: WorkflowFailureError) -> Problem:
    """Returns why a run failed: the error of its activity or of its worker's guard."""
    cause = root_cause(error.cause)
    kind = type_of(cause)
    return Problem(kind, message_with_hint(kind, sentence_of(cause).removeprefix(f"{kind}: ")))


async def warn_without_worker(client: Client, queue: str) -> None:
    """Warns a person who waits for a run if no worker serves the queue."""
    if not await has_worker(client, queue):
        say(f"Waiting: {no_worker(queue)}")

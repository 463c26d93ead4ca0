"""Waits for a run: says once which it is, and meanwhile what is retried or cannot start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import RenderableType
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.cli._pending import retries, unserved
from temporal_tenancy.cli._spinners import logs_on
from temporal_tenancy.cli.answers import Problem, address, err, say, shown_as_text

Handle = WorkflowHandle[Any, Any]  # of a workflow that is known only by its name

LOOK_INTERVAL: Final = 1.0  # seconds, at first
MOST_BETWEEN_LOOKS: Final = 5.0  # seconds
_ATTEMPT: Final = re.compile(r"attempt \d+( of \d+)?")


@contextmanager
def waiting_for(
    workflow_id: str, stands: str, url: str | None, *, quiet: bool = False
) -> Iterator[None]:
    """Says which run the block waits for, before it does: its end may be far away.

    What is shown after the block does not repeat that, but for `where_failed`.

    Args:
        workflow_id: of the run.
        stands: how it stands, such as "has started.".
        url: the run's address in the Web UI; None: there is none.
        quiet: whether to say nothing, because a JSON document will have both.
    """
    if not quiet:
        say(f"{workflow_id} {stands}{f' {url}' if url else ''}")
    try:
        yield
    except asyncio.CancelledError:  # Ctrl-C: whoever waits no longer can still find the run
        say(f"{workflow_id} goes on: {quoted_command('explain', workflow_id)}.")
        raise


def where_failed(url: str | None, problem: Problem | None) -> RenderableType | None:
    """Returns the address of a run that was waited for and has failed; None if it has not."""
    return None if problem is None else address(url)


async def result_of(
    client: Client, handle: Handle, *, quiet: bool = False, wait: float = LOOK_INTERVAL
) -> Any:
    """Returns a run's result (JSON), or raises its failure, as `handle.result()`.

    Tells each retry, and each activity that no worker serves: under a spinner on a terminal, else
    as a line on standard error.

    Args:
        client: of the handle.
        handle: of the run.
        quiet: whether a terminal gets no spinner; there can be only one at a time.
        wait: seconds before the first look at the run.
    """
    result = asyncio.create_task(handle.result())
    try:
        with _telling(handle.id, spinner=err.is_terminal and not quiet) as tell:
            while not result.done():
                await asyncio.wait({result}, timeout=wait)
                if not result.done():
                    tell(await _hindrances(client, handle))
                    wait = min(wait * 1.5, MOST_BETWEEN_LOOKS)
        return await result
    finally:
        result.cancel()


async def _hindrances(client: Client, handle: Handle) -> Sequence[str]:
    latest = client.get_workflow_handle(handle.id)  # it may have continued as new
    try:
        run = await latest.describe()
        return [*await unserved(client, run), *await retries(client, run)]
    except RPCError:
        return []  # the result is awaited all the same


@contextmanager
def _telling(workflow_id: str, *, spinner: bool) -> Iterator[Callable[[Sequence[str]], None]]:
    if not spinner:
        told: dict[str, str] = {}  # the last attempt, by the rest of the sentence

        def tell(sentences: Sequence[str]) -> None:
            for sentence in sentences:
                found = _ATTEMPT.search(sentence)
                attempt, rest = found[0] if found else "", _ATTEMPT.sub("", sentence)
                before = told.get(rest)
                told[rest] = attempt
                if before is None:
                    say(f"Waiting for {workflow_id}: {sentence}")
                elif before != attempt:
                    say(f"Waiting for {workflow_id}: {attempt}, which failed as before.")

        yield tell
        return
    title = f"{workflow_id} is running"
    with err.status(shown_as_text(title)) as status, logs_on(err):
        yield lambda sentences: status.update(shown_as_text(title, *sentences))

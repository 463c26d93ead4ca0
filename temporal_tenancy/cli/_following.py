"""Waits for a run, and shows meanwhile what is retried and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from temporal_tenancy.cli._pending import retries
from temporal_tenancy.cli.answers import err, say, shown_as_text

Handle = WorkflowHandle[Any, Any]  # of a workflow that is known only by its name

LOOK_INTERVAL: Final = 1.0  # seconds


async def result_of(
    client: Client, handle: Handle, *, quiet: bool, wait: float = LOOK_INTERVAL
) -> Any:
    """Returns a run's result (JSON), or raises its failure, as `handle.result()`.

    Args:
        client: of the handle.
        handle: of the run.
        quiet: whether to show nothing.
        wait: seconds between two looks at what is retried.
    """
    result = asyncio.create_task(handle.result())
    try:
        with _telling(f"{handle.id} is running", quiet=quiet) as tell:
            while not result.done():
                await asyncio.wait({result}, timeout=wait)
                if not result.done() and not quiet:
                    tell(await _retries(client, handle))
        return await result
    finally:
        result.cancel()


async def _retries(client: Client, handle: Handle) -> Sequence[str]:
    latest = client.get_workflow_handle(handle.id)  # it may have continued as new
    try:
        return await retries(client, await latest.describe())
    except RPCError:
        return []  # the result is awaited all the same


@contextmanager
def _telling(title: str, *, quiet: bool) -> Iterator[Callable[[Sequence[str]], None]]:
    """Yields what shows sentences: under a spinner on a terminal, else a line for each new one."""
    if quiet:
        yield lambda _: None
        return
    if not err.is_terminal:
        told: set[str] = set()

        def tell(sentences: Sequence[str]) -> None:
            for sentence in sentences:
                if sentence not in told:
                    told.add(sentence)
                    say(sentence)

        yield tell
        return
    with err.status(shown_as_text(title)) as status:
        yield lambda sentences: status.update(shown_as_text(title, *sentences))

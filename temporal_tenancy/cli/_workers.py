"""Looks for workers of a task queue."""

from __future__ import annotations

from temporalio.client import Client

from temporal_tenancy.cli.program import current_application, current_program
from temporal_tenancy.deployments.polling import KINDS, pollers_of


async def has_worker(client: Client, queue: str) -> bool:
    """Returns whether workers have polled `queue` lately, for workflows and for activities."""
    return all([await pollers(client, queue, kind) for kind in KINDS])


async def pollers(client: Client, queue: str, kind: str) -> set[str]:
    """Returns the identities of the workers that have lately polled `queue` for tasks of `kind`."""
    return {poller.identity for poller in await pollers_of(client, queue, kind, rpc_timeout=None)}


def no_worker(queue: str) -> str:
    """Returns the sentence for a queue without workers."""
    sentence = f'no worker serves the queue "{queue}".'
    command = current_application().worker
    if command is None:
        return sentence
    start = command.format(queue=queue, program=current_program().name)
    return f'{sentence} Start one: "{start}".'

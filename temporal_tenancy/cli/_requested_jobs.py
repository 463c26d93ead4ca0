"""Waits for jobs that were requested through the outbox."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from temporalio.client import WorkflowFailureError

from temporal_tenancy.cli._following import result_of, say_where
from temporal_tenancy.cli._server_access import Servers
from temporal_tenancy.cli._stops import why_stopped
from temporal_tenancy.cli._waiting import problem_of, warn_without_worker
from temporal_tenancy.cli.answers import Problem
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import WorkflowIdTaken, own_run

LOOK_INTERVAL: Final = 0.5  # seconds between looks for the run, which the relay starts


async def wait_for_job(
    connections: Servers, workflow_id: WorkflowId, *, quiet: bool
) -> tuple[Any, Problem | None]:
    """Waits until a requested job has ended; returns its result (JSON), or why there is none.

    Args:
        connections: open connections to both servers.
        workflow_id: of the job, whose message was committed.
        quiet: whether to show no sign of progress on a terminal.
    """
    if not quiet:
        # Before the relay has started it, which may take long: Ctrl-C must not lose the id.
        say_where(str(workflow_id), "is requested.", connections.link(str(workflow_id)))
    await warn_without_worker(connections.client, registry.get_or_raise(workflow_id.job).queue)
    client = connections.client
    try:
        run_id = await _started(connections, workflow_id)
    except WorkflowIdTaken as error:
        return None, Problem(type(error).__name__, error.message)
    if isinstance(run_id, Problem):
        return None, run_id
    handle = client.get_workflow_handle(str(workflow_id), run_id=run_id)
    try:
        return await if_known(result_of(client, handle, quiet=quiet)), None
    except WorkflowFailureError as error:
        return None, problem_of(error)


async def _started(connections: Servers, workflow_id: WorkflowId) -> str | Problem:
    """Returns the id of the run, once the relay has started it, or why it will not."""
    client = connections.client
    while True:
        run = await if_known(own_run(client, str(workflow_id), workflow_id.job))
        if run is not None and run.run_id is not None:
            return run.run_id
        stopped = await why_stopped(connections, workflow_id)
        if stopped is not None:
            return Problem("JobNotStarted", stopped)
        await asyncio.sleep(LOOK_INTERVAL)

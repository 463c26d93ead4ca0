"""Who waits for a run is told at once what keeps it from ending."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from datetime import timedelta

import pytest
from rich.console import Console
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest
from temporalio.client import Client

from processes.cli import command_logs
from temporal_tenancy.cli._pending import retries
from temporal_tenancy.cli._spinners import logs_on
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import STARTER
from workflows.retention import EnforceRetention


async def test_a_workflow_that_no_worker_has_is_told_while_the_run_is_waited_for(
    saas: Client, tenants: Tenants, starter_environ: dict[str, str]
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    async with saas_worker(saas, workflows=[EnforceRetention]):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, STARTER, "run", "billing.cycle", "--tenant", "acme"),
            *("--key", "2013-04", "--wait"),
            env=starter_environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        begun = (await process.stderr.readline()).decode()
        assert begun.startswith("acme/billing.cycle/2013-04 has started. http")
        told = (await process.stderr.readline()).decode()
        assert told.startswith(
            "Waiting for acme/billing.cycle/2013-04: Its workflow code fails and is retried"
        )
        assert (
            "): NotFoundError: Workflow class billing.cycle is not registered on this worker"
            in told
        )
        assert told.endswith(
            "Add it to the workflows of the worker that serves this queue, and restart the "
            "worker.\n"
        )
        await saas.get_workflow_handle("acme/billing.cycle/2013-04").terminate("told")
        out, _ = await process.communicate()
    assert process.returncode == 1
    # The id was said when it began; a failure has the address too.
    assert out.decode() == f"{begun.split()[-1]}\n"


async def test_a_worker_that_takes_a_run_and_does_not_answer_is_told_of(raw: Client) -> None:
    started = await raw.start_workflow(
        "billing.cycle",
        id="acme/billing.cycle/2013-05",
        task_queue="bulk",
        task_timeout=timedelta(seconds=1),
    )
    request = PollWorkflowTaskQueueRequest(
        namespace=raw.namespace, task_queue=TaskQueue(name="bulk"), identity="frozen"
    )
    for _ in range(2):
        task = await raw.workflow_service.poll_workflow_task_queue(request)
        assert task.workflow_execution.workflow_id == started.id
    [told] = await retries(raw, await started.describe())
    assert told.startswith("A worker took its workflow task and did not answer in time (attempt 2")


def test_log_lines_go_above_a_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "__stderr__", screen)
    console = Console(file=screen, force_terminal=True, width=60, _environ={})
    handler = logging.StreamHandler()  # keeps today's standard error
    logger = logging.getLogger("test.spinner")
    logger.addHandler(handler)
    try:
        with console.status("at work"), logs_on(console):
            assert handler.stream is sys.stderr is not screen
            logger.warning("a log line")
    finally:
        logger.removeHandler(handler)
    assert handler.stream is screen
    assert "a log line\n" in screen.getvalue()


def test_the_programs_own_log_lines_go_above_a_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler is made by the first line, which may come before, under or after a spinner."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "__stderr__", screen)
    console = Console(file=screen, force_terminal=True, width=200, _environ={})
    logger = logging.getLogger("test.spinner")
    monkeypatch.setattr(logger, "propagate", False)  # earlier tests have given the root a handler
    handler = command_logs._Later("json")
    logger.addHandler(handler)
    try:
        for place in ("before", "after"):
            logger.warning(place)
            assert handler._handler.stream is screen
            with console.status("at work"), logs_on(console):
                logger.warning("under")
                assert handler._handler.stream is sys.stderr is not screen
        logger.warning("last")
        assert handler._handler.stream is screen
    finally:
        logger.removeHandler(handler)
    assert screen.getvalue().count('"event": "under"') == 2

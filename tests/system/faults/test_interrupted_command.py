"""Ctrl-C in a waiting command ends the waiting, but not the job."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import STARTER

PERIOD = "2013-04"
INTERRUPTED = "Interrupted: jobs that have started keep running.\n"


@pytest.mark.parametrize(
    ("command", "workflow_id"),
    [
        (
            ["run", "billing.cycle", "--tenant", "acme", "--key", PERIOD],
            f"acme/billing.cycle/{PERIOD}",
        ),
        (
            ["fan-out", "billing.cycle", "--tick", PERIOD, "--json"],
            f"platform/billing.cycle/tick-{PERIOD}",
        ),
    ],
    ids=["run", "fan-out"],
)
async def test_ctrl_c_ends_the_waiting_and_the_job_goes_on(
    saas: Client,
    tenants: Tenants,
    starter_environ: dict[str, str],
    command: Sequence[str],
    workflow_id: str,
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, STARTER, *command, "--wait"),
        env=starter_environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A shell's background jobs ignore Ctrl-C, and this one would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    while (waiting := await process.stderr.readline()).split()[1:3] == [b"has", b"started."]:
        pass
    assert waiting.startswith(b"Waiting: no worker serves ")

    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    told = f'{workflow_id} goes on: "starter.py explain {workflow_id}".\n'
    assert (process.returncode, out.decode(), err.decode()) == (130, "", told + INTERRUPTED)

    run = saas.get_workflow_handle(workflow_id)
    assert (await run.describe()).status is WorkflowExecutionStatus.RUNNING
    async with saas_worker(saas):
        await run.result()

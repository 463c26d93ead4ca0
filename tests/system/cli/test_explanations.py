"""How `starter.py explain` explains a run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker

from processes.cli.program import PROGRAM
from temporal_tenancy.cli import _pending, use_program
from temporal_tenancy.cli._findings import Findings
from temporal_tenancy.cli._pending import waits_for
from temporal_tenancy.cli._server_access import Temporal
from temporal_tenancy.cli.explanations import _absent, _forgotten_soon, _input_fits, _look
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry
from tests.fixtures.jobs import mistaken_jobs as mistakes
from tests.fixtures.jobs import relay_jobs  # noqa: F401  # registers the jobs
from tests.fixtures.jobs.slow_jobs import TalkInput, TalkJob
from tests.fixtures.temporal import make_worker

BATCHED = "test.together"


async def test_a_result_that_nobody_can_decode_is_explained(
    app: Client, tenants: Tenants, controlled_worker: Worker
) -> None:
    await tenants.add("mumbles", "mumbles", plan="enterprise")
    id = "mumbles/test.monstrous/a"
    started = await app.start_workflow(
        "test.monstrous", {"tenant_id": "mumbles"}, id=id, task_queue="bulk"
    )
    with pytest.raises(KeyError, match="of/nobody"):
        await started.result()
    findings = await _look(Temporal(app, None), id)
    assert (findings.kind, findings.input, findings.result) == (
        "tenant job",
        {"tenant_id": "mumbles"},
        None,
    )


async def test_a_run_whose_workers_are_gone_says_that_its_task_waits(
    client: Client, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server still remembers the workers, as it does those that were killed."""
    monkeypatch.setattr(_pending, "TAKEN_WITHIN", timedelta(0))
    monkeypatch.setattr(_pending, "has_worker", remembered)
    started = await client.start_workflow(
        TalkJob.run, TalkInput(tenant_id="acme"), id=f"acme/test.talk/{queue}", task_queue=queue
    )
    with use_program(PROGRAM):
        [sentence] = await waits_for(client, await started.describe())
    await started.terminate()
    assert sentence.startswith(f'Its workflow task waits for a worker of the queue "{queue}" since')
    assert sentence.endswith(": none polls it, or all are busy.")


async def test_a_run_of_a_queue_that_nobody_polls_says_so_once(
    client: Client, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pending, "TAKEN_WITHIN", timedelta(0))
    started = await client.start_workflow(
        TalkJob.run, TalkInput(tenant_id="acme"), id=f"acme/test.talk/{queue}", task_queue=queue
    )
    with use_program(PROGRAM):
        [sentence] = await waits_for(client, await started.describe())
    await started.terminate()
    assert sentence.startswith(f'no worker serves the queue "{queue}".')


@pytest.mark.parametrize(
    ("message", "worked_off_by", "letter", "status"),
    [
        ("pending", None, None, "not started"),
        ("processing", None, None, "not started"),  # a relay has it
        ("processing", "acme/test.together/messages-1", None, "running"),
        ("completed", "acme/test.together/messages-1", None, "completed"),
        ("failed", None, None, "to be retried"),
        ("dead_letter", None, ("message", "open"), "failed"),
        ("dead_letter", None, ("message", "discarded"), "failed"),
        ("dead_letter", None, ("relay", "open"), "not started"),
        (None, None, ("message", "resolved"), "forgotten"),
    ],
)
def test_a_message_without_a_run_of_its_own_has_a_status(
    message: str | None, worked_off_by: str | None, letter: tuple[str, str] | None, status: str
) -> None:
    findings = Findings(f"acme/{BATCHED}/a", WorkflowId("acme", BATCHED, "a"), registry[BATCHED])
    if message is not None:
        findings.message = {"status": message, "worked_off_by": worked_off_by}
    if letter is not None:
        findings.letter = DeadLetterRow(source=letter[0], status=letter[1])
    assert _absent(findings) == status
    assert "share a run" in _forgotten_soon(findings)


async def remembered(*_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("input", "wrongly_started", "words"),
    [
        (
            {"tenant_id": "acme", "how": "foreign child"},
            False,
            "tests/fixtures/jobs/mistaken_jobs.py, line ",
        ),
        ({"tenant_id": "acme", "how": "unfit input of an activity"}, False, "activity take_text"),
        ({"tenant_id": "globex", "how": "wait"}, True, "says globex"),
        ({"tenant_id": "acme", "how": 1}, True, "the input of mistake.make does not fit"),
    ],
)
async def test_a_bug_in_workflow_code_is_told_from_a_wrong_start(
    client: Client,
    raw_client: Client,
    queue: str,
    input: dict[str, Any],
    wrongly_started: bool,
    words: str,
) -> None:
    activities = [mistakes.make_text, mistakes.take_text, mistakes.beat_text]
    async with make_worker(client, queue, workflows=[mistakes.MakeMistake], activities=activities):
        id = f"acme/mistake.make/{queue}"
        started = await raw_client.start_workflow("mistake.make", input, id=id, task_queue=queue)
        with pytest.raises(WorkflowFailureError):
            await started.result()
    server = Temporal(client, None)
    with use_program(PROGRAM):
        findings = await _look(server, id)
        findings.input_fits = await _input_fits(server, None, findings)
    assert findings.failure is not None
    assert words in findings.failure.message
    assert (findings.was_wrongly_started, findings.is_a_bug) == (
        wrongly_started,
        not wrongly_started,
    )

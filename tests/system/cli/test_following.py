"""Who waits for a run sees what is retried, and why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from processes.cli.program import PROGRAM
from temporal_tenancy.cli import _following, use_program
from temporal_tenancy.cli._following import result_of
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.jobs.fan_out_control import Control


@pytest.fixture
def sentences(control: Control, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is told; the first sentence lets the activity succeed."""
    told: list[str] = []

    def say(sentence: str) -> None:
        told.append(sentence)
        control.released.set()

    monkeypatch.setattr(_following, "say", say)
    with use_program(PROGRAM):
        yield told


async def test_attempts_and_the_last_failure_are_told_while_a_run_is_awaited(
    app: Client,
    tenants: Tenants,
    control: Control,
    controlled_worker: Worker,
    sentences: list[str],
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    control.flaky.add("acme")
    handle = await app.start_workflow(
        "test.flaky", {"tenant_id": "acme"}, id="acme/test.flaky/a", task_queue="bulk"
    )
    assert await result_of(app, handle, wait=0.05) == "acme"
    assert re.fullmatch(
        r"Waiting for acme/test\.flaky/a: controlled_work: attempt \d+ of 1000, last failed with "
        r"Away: acme is away",
        sentences[0],
    )


@workflow.defn(name="area.verb")
class Elsewhere:
    """Runs the activity `work` on the queue that its input names."""

    @workflow.run
    async def run(self, queue: str) -> None:
        await workflow.execute_activity(
            "work", task_queue=queue, start_to_close_timeout=timedelta(minutes=1)
        )


@activity.defn
async def other_work() -> None:
    """Not the activity that the workflow calls."""


@pytest.mark.parametrize(
    ("queue", "sentence"),
    [
        ("nobodys", r'work cannot start: no worker serves the queue "nobodys"\. Start one: .+'),
        (
            "mine",
            r"work: attempt \d+, last failed with NotFoundError: Activity function work for "
            r"workflow .+ is not registered on this worker.+ Add it to the activities of the "
            r"worker that serves this queue, and restart the worker\.",
        ),
    ],
)
async def test_an_activity_that_no_worker_has_is_told_while_the_run_is_waited_for(
    raw: Client, control: Control, sentences: list[str], queue: str, sentence: str
) -> None:
    async with Worker(
        raw,
        task_queue="mine",
        workflows=[Elsewhere],
        activities=[other_work],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        handle = await raw.start_workflow(
            "area.verb", queue, id="acme/area.verb/a", task_queue="mine"
        )
        waiting = asyncio.create_task(result_of(raw, handle, wait=0.05))
        async with asyncio.timeout(30):
            await control.released.wait()
        await handle.terminate("told")
        with pytest.raises(WorkflowFailureError):
            await waiting
    assert re.fullmatch(rf"Waiting for acme/area\.verb/a: {sentence}", sentences[0]), sentences[0]


async def test_a_terminal_shows_them_under_the_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Status:
        def update(self, text: object) -> None:
            shown.append(str(text))

    class Terminal:
        is_terminal = True

        @contextmanager
        def status(self, text: object) -> Iterator[Status]:
            shown.append(str(text))
            yield Status()

    monkeypatch.setattr(_following, "err", Terminal())
    with _following._telling("ua/area.verb/1", spinner=True) as tell:
        sentences: Sequence[str] = ["work: attempt 3 of 5, last failed with Away: x\x1b[2J"]
        tell(sentences)
    assert shown == [
        "ua/area.verb/1 is running",
        "ua/area.verb/1 is running\nwork: attempt 3 of 5, last failed with Away: x\\x1b[2J",
    ]


def test_what_fails_as_before_is_not_told_in_full_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(_following, "say", told.append)
    with _following._telling("ua/area.verb/1", spinner=False) as tell:
        for attempt, error in ((1, "Away: x"), (1, "Away: x"), (2, "Away: x"), (3, "Lost: y")):
            tell([f"work: attempt {attempt} of 5, last failed with {error}"])
    assert told == [
        "Waiting for ua/area.verb/1: work: attempt 1 of 5, last failed with Away: x",
        "Waiting for ua/area.verb/1: attempt 2 of 5, which failed as before.",
        "Waiting for ua/area.verb/1: work: attempt 3 of 5, last failed with Lost: y",
    ]

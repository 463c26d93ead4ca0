"""What `explain` advises: the right command with the right id, as a shell takes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import VersioningBehavior
from temporalio.api.workflow.v1 import WorkflowExecutionInfo, WorkflowExecutionVersioningInfo
from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import TypedSearchAttributes

import workflows  # noqa: F401  # registers the jobs
from processes.cli.program import PROGRAM
from temporal_tenancy.cli import use_program
from temporal_tenancy.cli._commands import command, shell_word
from temporal_tenancy.cli._findings import Findings
from temporal_tenancy.cli._next_steps import next_steps
from temporal_tenancy.cli._pending import CODE_FAILS
from temporal_tenancy.cli.answers import Problem
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.display import is_hidden
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry

JOB = "billing.cycle"
WITHOUT_PERIOD = "notifications.send"
LETTER = UUID("0198a1b2-0000-7000-8000-00000000000a")
REPLAY = f"starter.py dead-letters replay {LETTER}"
LEAVING = "TenantOffboarding: ua is being offboarded since 2026-11-02, and it does not run."
SUSPENDED = "TenantSuspended: ua is suspended since 2026-11-02."

FIRST_MEND = "First: mend the code, and deploy it."

FAILED = WorkflowExecutionStatus.FAILED
COMPLETED = WorkflowExecutionStatus.COMPLETED
RUNNING = WorkflowExecutionStatus.RUNNING
PINNED = VersioningBehavior.VERSIONING_BEHAVIOR_PINNED
UNPINNED = VersioningBehavior.VERSIONING_BEHAVIOR_UNSPECIFIED


@pytest.fixture(autouse=True)
def program() -> Iterator[None]:
    with use_program(PROGRAM):
        yield


def run(
    status: WorkflowExecutionStatus, type: str = "", *, pinned: bool = False
) -> WorkflowExecutionDescription:
    """A run as the server describes it; without a type it is the one of its id's job."""
    fake = SimpleNamespace(
        status=status,
        workflow_type=type,
        parent_id=None,
        typed_search_attributes=TypedSearchAttributes.empty,
        raw_description=SimpleNamespace(
            pending_activities=[],
            workflow_execution_info=WorkflowExecutionInfo(
                versioning_info=WorkflowExecutionVersioningInfo(
                    behavior=PINNED if pinned else UNPINNED
                )
            ),
        ),
    )
    return cast(WorkflowExecutionDescription, fake)


def letter(status: str, **fields: Any) -> DeadLetterRow:
    row = {"tenant_id": "ua", "workflow_id": f"ua/{JOB}/2013-04", "error_type": "UsageNotBillable"}
    return DeadLetterRow(id=LETTER, status=status, **{**row, **fields})


def findings(job: str = JOB, key: str = "2013-04", owner: str = "ua", **found: Any) -> Findings:
    parts = WorkflowId(owner, job, key)
    if (described := found.get("run")) is not None:
        described.id = str(parts)
        described.workflow_type = described.workflow_type or job
    return Findings(str(parts), parts, registry[job], **found)


def entry(state: str) -> dict[str, Any]:
    return {"tick": "2013-04", "state": state, "reason": None}


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        (findings(run=run(COMPLETED)), []),
        (findings(run=run(RUNNING)), []),
        (
            findings(run=run(FAILED)),
            [f"starter.py run {JOB} --tenant ua --key 2013-04 runs it again, for ua."],
        ),
        (findings(run=run(FAILED), refused=LEAVING), []),
        (
            findings(run=run(FAILED), refused=LEAVING, letter=letter("open")),
            [
                f"starter.py dead-letters discard {LETTER} puts the dead letter away: ua is "
                "leaving, and runs the job no more."
            ],
        ),
        (
            findings(
                WITHOUT_PERIOD, "a b", run=run(FAILED), input={"tenant_id": "ua", "subject": "it's"}
            ),
            [
                f"starter.py run {WITHOUT_PERIOD} --tenant ua --key 'a b' --input "
                """'{"subject": "it'"'"'s"}' runs it again, for ua."""
            ],
        ),
        (
            findings(run=run(FAILED), letter=letter("open")),
            [f"{REPLAY} runs it again, for ua."],
        ),
        (
            findings(run=run(FAILED), letter=letter("open"), refused=SUSPENDED),
            [f"First: {SUSPENDED}", f"{REPLAY} runs it again, for ua."],
        ),
        (findings(letter=letter("open")), [f"{REPLAY} runs it again, for ua."]),
        (findings(letter=letter("resolved")), []),
        (findings(letter=letter("replayed")), []),
        (findings(run=run(RUNNING), letter=letter("replayed")), []),
        (
            findings(run=run(FAILED), letter=letter("replayed")),
            [f"{REPLAY} runs it again, for ua."],
        ),
        (
            findings(run=run(FAILED), letter=letter("discarded")),
            [f"{REPLAY} runs it again, for ua, although it was discarded."],
        ),
        (
            findings(letter=letter("open", error_type="InvalidPayload")),
            [
                f"starter.py dead-letters discard {LETTER} puts the dead letter away: its input "
                "would be refused again."
            ],
        ),
        (
            findings(run=run(COMPLETED), letter=letter("open", workflow_id=f"ua/{JOB}/other")),
            [f"{REPLAY} runs it again, for ua."],
        ),
        (findings(run=run(FAILED), failure=Problem("TenantMismatch", "no.")), []),
        (
            findings(
                run=run(FAILED),
                failure=Problem("TenantMismatch", "no. (evening.py, line 34, in run)"),
                letter=letter("open", error_type="TenantMismatch"),
                input_fits=True,
            ),
            [FIRST_MEND, f"{REPLAY} runs it again, for ua."],
        ),
        (
            findings(letter=letter("open", error_type="InvalidPayload"), input_fits=True),
            [FIRST_MEND, f"{REPLAY} runs it again, for ua."],
        ),
        (
            findings(
                letter=letter(
                    "open", error_type="NotAwaited", message="x() (evening.py, line 3, in run)"
                )
            ),
            [FIRST_MEND, f"{REPLAY} runs it again, for ua."],
        ),
        (
            findings(run=run(RUNNING), waiting=[f"{CODE_FAILS} (attempt 2): KeyError: 'x'"]),
            ["Mend the code, and deploy it: the run then goes on."],
        ),
        (
            findings(
                run=run(RUNNING, pinned=True),
                waiting=[f"{CODE_FAILS} (attempt 2): KeyError: 'x'"],
            ),
            [
                "Mend the code, deploy it, and terminate this run, which stays on its version.",
                f"starter.py run {JOB} --tenant ua --key 2013-04 then runs it again, for ua.",
            ],
        ),
        (findings(run=run(FAILED), entry=entry("succeeded")), []),
        (
            findings(entry=entry("failed")),
            [f"starter.py run {JOB} --tenant ua --key 2013-04 runs it again, for ua."],
        ),
        (
            findings(entry=entry("not_started")),
            [
                f"starter.py ticks catch-up {JOB} --tick 2013-04 --wait runs it, for ua and every "
                "other tenant that the tick missed."
            ],
        ),
        (findings(entry=entry("running")), []),
        (
            findings(
                owner="platform",
                key="tick-2013-04",
                tick="2013-04",
                run=run(FAILED, "fan_out.tick"),
                input={"statuses": ["active", "trial"], "extra": {"dry": True}},
            ),
            [
                f"starter.py fan-out {JOB} --tick 2013-04 --where status=active,trial --input "
                """'{"dry": true}' --wait runs those that have not succeeded."""
            ],
        ),
        (
            findings(
                owner="platform",
                key="tick-2013-04",
                tick="2013-04",
                run=run(COMPLETED, "fan_out.tick"),
                entry={**entry("ended"), "failed": 2},
            ),
            [
                f"starter.py ticks show {JOB} --tick 2013-04 names the tenants that failed.",
                f"starter.py fan-out {JOB} --tick 2013-04 --wait runs those that have not "
                "succeeded.",
            ],
        ),
        (findings("dead_letters.sweep", "tick", "platform", run=run(FAILED, "x")), []),
    ],
)
def test_each_state_has_its_next_steps(found: Findings, steps: list[str]) -> None:
    assert [str(step) for step in next_steps(found)] == steps


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)


@given(KEYS)
def test_a_shell_reads_a_command_as_it_was_meant_and_a_terminal_shows_all_of_it(key: str) -> None:
    words = shlex_of_bash(shell_word(key))
    assert words == key
    with use_program(PROGRAM):
        assert not any(map(is_hidden, command("run", key)))


def shlex_of_bash(word: str) -> str:
    """Returns what a shell reads: Python knows all of its quoting but `$'…'`."""
    if not word.startswith("$'"):
        [read] = shlex.split(word)
        return read
    assert word.endswith("'")
    return word[2:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")

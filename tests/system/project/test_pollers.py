"""Every worker that a program starts polls as `POLLERS` says, whose losses were measured."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from temporalio.worker import PollerBehaviorSimpleMaximum

from temporal_tenancy.sdk import POLLERS

ROOT = Path(__file__).parents[3]
STARTING = [ROOT / "processes/worker/serve.py", ROOT / "temporal_tenancy/cli/processes.py"]


def behaviors_of(path: Path) -> list[dict[str, str]]:
    """Returns what each worker that a file makes is told of polls, by argument."""
    return [
        {
            str(each.arg): ast.unparse(each.value)
            for each in node.keywords
            if str(each.arg).endswith("_poller_behavior")
        }
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Worker"
    ]


@pytest.mark.parametrize("path", STARTING, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_worker_of_a_program_has_the_pollers(path: Path) -> None:
    found = behaviors_of(path)
    assert found
    for told in found:
        assert told == {
            "workflow_task_poller_behavior": "POLLERS",
            "activity_task_poller_behavior": "POLLERS",
        }


def test_their_number_does_not_follow_the_load() -> None:
    assert PollerBehaviorSimpleMaximum(5) == POLLERS

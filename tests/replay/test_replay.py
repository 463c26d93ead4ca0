"""Histories of earlier releases replay with the code of this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from processes.connect import PASSTHROUGH
from temporal_tenancy.sdk.plugin import TenancyPlugin
from tests import jobs, scope_jobs
from tests.failing_jobs import Failing
from tests.replay.record import HISTORIES
from workflows import WORKFLOWS

RECORDED = sorted(HISTORIES.glob("*.json"))
PLUGIN = TenancyPlugin(
    passthrough=[*PASSTHROUGH, "tests.marks", "tests.scope_control"], exempt=jobs.EXEMPT
)


def history_of(path: Path) -> WorkflowHistory:
    workflow_id = path.name.rpartition("@")[0].replace("~", "/")
    return WorkflowHistory.from_json(workflow_id, path.read_text())


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
async def test_a_recorded_history_replays(path: Path) -> None:
    workflows = [*WORKFLOWS, *jobs.WORKFLOWS, Failing, *scope_jobs.WORKFLOWS]
    replayer = Replayer(workflows=workflows, plugins=[PLUGIN])
    await replayer.replay_workflow(history_of(path))


def test_every_kind_of_history_has_been_recorded() -> None:
    kinds = {path.name.split("@")[0].split("~", 1)[1] for path in RECORDED}
    assert {
        "echo.tell~by-client",
        "echo.tell~without-header",
        "echo.marked~refused",
        "echo.mailbox~messages",
        "echo.reach~refused",
        "echo.reach~cancel-before-the-plugin",
        "echo.reach~child-before-the-plugin",
        "echo.waiter~before-the-plugin",
        "test.failing~letter",
        "scope.lead~globex",
        "scope.lead~platform",
        "scope.lead~generator",
        "echo.tell~with-a-slot",
        "search.index~messages",
        "dead_letters.sweep~by-client",
        "billing.cycle~2013-01",
        "billing.cycle~tick-2013-01",
        "analytics.aggregate~tick-2013-01",
    } <= kinds
    assert any(kind.startswith("contacts.import~") for kind in kinds)
    for shard in ("shard-0", "shard-1"):
        assert any(kind.startswith(f"billing.cycle~tick-2013-01~{shard}-") for kind in kinds)


def test_no_history_names_the_machine_it_was_recorded_on() -> None:
    for path in RECORDED:
        identities = [line for line in path.read_text().splitlines() if '"identity"' in line]
        assert identities
        assert all('"recorder"' in line or '"history-service"' in line or '""' in line
                   for line in identities), path.name  # fmt: skip


async def test_a_history_that_does_not_fit_the_code_is_found_out() -> None:
    path = next(path for path in RECORDED if "echo.tell~by-client" in path.name)
    changed = path.read_text().replace('"tell_tenant"', '"another_activity"')
    replayer = Replayer(workflows=jobs.WORKFLOWS, plugins=[PLUGIN])
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(WorkflowHistory.from_json("acme/echo.tell/x", changed))

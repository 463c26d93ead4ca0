"""Histories of earlier releases replay with the code of this one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from processes.connect import PASSTHROUGH
from temporal_tenancy.core.jobs import job_of
from temporal_tenancy.everything import TenancyPlugin
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import scope_jobs
from tests.fixtures.jobs.failing_jobs import Failing
from tests.replay.record import HISTORIES
from workflows import WORKFLOWS

RECORDED = sorted(HISTORIES.glob("*.json"))
PASSED_THROUGH = [*PASSTHROUGH, "tests.fixtures.jobs.marks", "tests.fixtures.jobs.scope_control"]
PLUGIN = TenancyPlugin(passthrough=PASSED_THROUGH, exempt=jobs.EXEMPT)


def of_a_feature(path: Path) -> bool:
    """Whether a history is of a workflow that a feature brings."""
    started = json.loads(path.read_text())["events"][0]["workflowExecutionStartedEventAttributes"]
    own = [cls for feature in PLUGIN.features for cls in feature.replayed]
    return started["workflowType"]["name"] in {job.name for job in map(job_of, own) if job}


OF_JOBS = [path for path in RECORDED if not of_a_feature(path)]


def history_of(path: Path) -> WorkflowHistory:
    workflow_id = path.name.rpartition("@")[0].replace("~", "/")
    return WorkflowHistory.from_json(workflow_id, path.read_text())


@pytest.fixture(scope="module")
async def replayed() -> Mapping[str, Exception]:
    """What the histories fail with, by run: replayed together, which loads the workflows once."""
    return await replay(map(history_of, RECORDED), PLUGIN)


@pytest.fixture(scope="module")
async def replayed_alone() -> Mapping[str, Exception]:
    """The same of jobs' histories, by a plugin without features."""
    alone = TenancyPlugin(passthrough=PASSED_THROUGH, exempt=jobs.EXEMPT, features=[])
    return await replay(map(history_of, OF_JOBS), alone)


async def replay(
    histories: Iterable[WorkflowHistory], plugin: TenancyPlugin
) -> Mapping[str, Exception]:
    async def given() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    workflows = [*WORKFLOWS, *jobs.WORKFLOWS, Failing, *scope_jobs.WORKFLOWS]
    replayer = Replayer(workflows=workflows, plugins=[plugin])
    done = await replayer.replay_workflows(given(), raise_on_replay_failure=False)
    return done.replay_failures


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_a_recorded_history_replays(path: Path, replayed: Mapping[str, Exception]) -> None:
    assert history_of(path).run_id not in replayed


@pytest.mark.parametrize("path", OF_JOBS, ids=[path.stem for path in OF_JOBS])
def test_a_jobs_history_replays_without_any_feature(
    path: Path, replayed_alone: Mapping[str, Exception]
) -> None:
    assert history_of(path).run_id not in replayed_alone


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
    assert "deployments.watch~app.v2" in kinds
    assert any(kind.startswith("billing.cycle~tick-2013-02~shard-0-") for kind in kinds)
    for shard in ("shard-0", "shard-1"):
        assert any(kind.startswith(f"billing.cycle~tick-2013-01~{shard}-") for kind in kinds)
    # A shard that reads its second page beside a child, as shards do since the patch.
    texts = [path.read_text() for path in RECORDED if "~shard-" in path.name]
    assert any("MARKER" in text and text.count('"name": "next_page"') == 2 for text in texts)


def test_no_history_names_the_machine_it_was_recorded_on() -> None:
    for path in RECORDED:
        identities = [line for line in path.read_text().splitlines() if '"identity"' in line]
        assert identities
        assert all('"recorder"' in line or '"history-service"' in line or '""' in line
                   for line in identities), path.name  # fmt: skip


async def test_a_history_that_does_not_fit_the_code_is_found_out() -> None:
    path = next(path for path in RECORDED if "echo.tell~by-client" in path.name)
    changed = path.read_text().replace('"tell_tenant"', '"another_activity"')
    history = WorkflowHistory.from_json("acme/echo.tell/x", changed)
    failures = await replay([history], PLUGIN)
    assert isinstance(failures[history.run_id], NondeterminismError)

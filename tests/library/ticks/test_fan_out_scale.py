"""A fan-out stays within Temporal's history limits, however many tenants there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import TerminatedError

from dev.devstack.temporal_binary import find_temporal
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult, fan_out
from tests.fixtures.app import add_active_tenants, another_client, app_plugin, app_worker
from tests.fixtures.jobs import fan_out_control
from tests.library.ticks.test_fan_out import JOB

# Temporal's limits are 51,200 events, and a warning at 10,240: these are a hundredth.
LIMIT, WARNING = 512, 102
TENANTS, SHARD_SIZE = 200, 20


@pytest.fixture
async def narrow(
    request: pytest.FixtureRequest, database: Database, tmp_path: Path
) -> AsyncIterator[Client]:
    """A client of a server with low limits."""
    limits = {
        "limit.historyCount.error": str(LIMIT),
        "limit.historyCount.warn": str(WARNING),
        **getattr(request, "param", {}),
    }
    server = TemporalDevServer(find_temporal(), tmp_path, ui=False, dynamic_config=limits)
    with server:
        yield await Client.connect(server.address, plugins=[app_plugin(database)])


async def run(client: Client, tick: str, shard_size: int) -> FanOutResult:
    return await client.execute_workflow(
        FanOut.run,
        FanOutInput(job=JOB, tick=tick, shard_size=shard_size, window=10),
        id=f"platform/{JOB}/tick-{tick}",
        task_queue="bulk",
    )


async def test_shards_keep_every_history_short_where_one_workflow_would_be_terminated(
    narrow: Client, database: Database
) -> None:
    fan_out_control.new_control()
    await add_active_tenants(database, TENANTS)
    # Some plans lack the job's feature: their tenants are skipped.
    async with app_worker(narrow):
        result = await run(narrow, "sharded", SHARD_SIZE)
        assert (result.planned, result.failed) == (TENANTS, 0)
        assert result.succeeded + result.skipped == TENANTS
        longest = {"root": 0, "shard": 0, "child": 0}
        async for each in narrow.list_workflows():
            kind = {"fan_out.tick": "root", "fan_out.shard": "shard"}.get(
                each.workflow_type, "child"
            )
            longest[kind] = max(longest[kind], each.history_length)
        assert longest["shard"] <= SHARD_SIZE * 10
        assert longest["root"] < LIMIT
        with pytest.raises(WorkflowFailureError) as caught:
            await run(narrow, "whole", TENANTS)
        assert isinstance(caught.value.cause, TerminatedError) or "Terminated" in str(
            caught.value.cause.__cause__
        )


@pytest.mark.parametrize(
    "narrow", [{"limit.historyCount.suggestContinueAsNew": "200"}], indirect=True
)
async def test_a_shard_whose_tenants_come_one_by_one_leaves_the_rest_to_another(
    narrow: Client, database: Database
) -> None:
    pages_of_seven = await another_client(narrow, app_plugin(database, fan_out(page_size=7)))
    control = fan_out_control.new_control()
    await add_active_tenants(database, 60)
    request = FanOutInput(job="test.controlled_daily", tick="2013-04-30", window=1)
    async with app_worker(pages_of_seven):
        root = "platform/test.controlled_daily/tick-2013-04-30"
        result = await narrow.execute_workflow(FanOut.run, request, id=root, task_queue="bulk")
        shards = [
            each.history_length
            async for each in narrow.list_workflows("WorkflowType = 'fan_out.shard'")
        ]
    assert (result.planned, result.succeeded, result.already) == (60, 60, 0)
    assert set(control.runs.values()) == {1}
    assert len(shards) > 1
    assert max(shards) < LIMIT
    assert sum(shards) > LIMIT  # too much for one

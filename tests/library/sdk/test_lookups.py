"""Lookups return None for a missing object, and raise if the server cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import own_run, started_event

ID = "namespace/test.note/k"  # a tenant's name is its own

Ask = Callable[[Client], Awaitable[object]]

RUNS: dict[str, Ask] = {
    "the latest run": lambda client: client.get_workflow_handle(ID).describe(),
    "a run": lambda client: client.get_workflow_handle(ID, run_id=str(uuid4())).describe(),
    "no run's id": lambda client: client.get_workflow_handle(ID, run_id="made up").describe(),
    "no workflow's id": lambda client: client.get_workflow_handle("x" * 2_000).describe(),
    "a job's own run": lambda client: own_run(client, ID, "test.note"),
    "how a run began": lambda client: started_event(client, ID, str(uuid4())),
    "a result": lambda client: client.get_workflow_handle(ID).result(),
    "a schedule": lambda client: client.get_schedule_handle(ID).describe(),
}


@pytest.mark.parametrize("ask", RUNS.values(), ids=RUNS)
async def test_what_the_server_does_not_have_is_none(raw: Client, ask: Ask) -> None:
    assert await if_known(ask(raw)) is None


async def test_what_it_has_is_as_it_says(raw: Client) -> None:
    handle = await raw.start_workflow("test.note", id=ID, task_queue="nobody")
    found = await if_known(handle.describe())
    assert found is not None
    assert found.run_id == handle.result_run_id


@pytest.mark.parametrize(
    "ask", [RUNS["the latest run"], RUNS["a schedule"]], ids=["run", "schedule"]
)
async def test_a_namespace_that_is_missing_says_nothing_of_what_was_in_it(
    nowhere: Client, ask: Ask
) -> None:
    with pytest.raises(RPCError):
        await if_known(ask(nowhere))

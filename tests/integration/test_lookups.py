"""What the server does not have is None; that it cannot say so is none of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from dev.devstack.temporal_server import TemporalDevServer
from processes.connect import reaching
from temporal_tenancy.cli import NotReachable
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
OTHERS: dict[str, Ask] = {
    "a start": lambda client: client.start_workflow("test.note", id=ID, task_queue="nobody"),
    "a cancellation": lambda client: client.get_workflow_handle(ID).cancel(),
    "a list": lambda client: anext(client.list_workflows()),
    "a pause": lambda client: client.get_schedule_handle(ID).pause(),
}


@pytest.fixture
async def raw(temporal: TemporalDevServer, namespace: str) -> Client:
    """A client without the library."""
    return await Client.connect(temporal.address, namespace=namespace)


@pytest.fixture
async def nowhere(temporal: TemporalDevServer) -> Client:
    """A client of a namespace that the server does not have."""
    return await Client.connect(temporal.address, namespace="nowhere")


@pytest.mark.parametrize("ask", RUNS.values(), ids=RUNS)
async def test_what_the_server_does_not_have_is_none(raw: Client, ask: Ask) -> None:
    with reaching():
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


@pytest.mark.parametrize(
    "ask",
    [*(RUNS[each] for each in ("the latest run", "a result", "a schedule")), *OTHERS.values()],
    ids=["the latest run", "a result", "a schedule", *OTHERS],
)
async def test_whatever_is_asked_a_person_hears_that_the_namespace_is_missing(
    nowhere: Client, ask: Ask
) -> None:
    with pytest.raises(NotReachable, match="no namespace"), reaching():
        await ask(nowhere)


async def test_a_run_that_is_not_there_is_no_namespace_that_is_missing(raw: Client) -> None:
    with pytest.raises(RPCError), reaching():
        await raw.get_workflow_handle(ID).cancel()

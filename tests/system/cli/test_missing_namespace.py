"""Every command reports a namespace that the server does not have."""

from __future__ import annotations

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from processes.connect import reaching
from temporal_tenancy.cli import NotReachable
from tests.library.sdk.test_lookups import ID, RUNS, Ask

OTHERS: dict[str, Ask] = {
    "a start": lambda client: client.start_workflow("test.note", id=ID, task_queue="nobody"),
    "a cancellation": lambda client: client.get_workflow_handle(ID).cancel(),
    "a list": lambda client: anext(client.list_workflows()),
    "a pause": lambda client: client.get_schedule_handle(ID).pause(),
}


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

"""A run counts for the period in its key only if its input names that period."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from tests.fixtures.app import app_plugin, rows_of
from tests.fixtures.jobs import fan_out_jobs
from tests.fixtures.jobs.fan_out_control import Control, until

DAILY = "test.controlled_daily"
MONTHLY = "test.controlled_monthly"


@pytest.fixture(autouse=True)
async def acme(tenants: Tenants, controlled_worker: Worker) -> None:
    await tenants.add("acme", "acme", plan="enterprise")


async def begin(raw: Client, job: str, key: str, period: str) -> WorkflowHandle[object, object]:
    """Starts a run as the Temporal CLI does."""
    given = {"tenant_id": "acme", "period": period}
    return await raw.start_workflow(job, given, id=f"acme/{job}/{key}", task_queue="bulk")


async def replay(handle: WorkflowHandle[object, object], database: Database) -> None:
    replayer = Replayer(workflows=fan_out_jobs.WORKFLOWS, plugins=[app_plugin(database)])
    await replayer.replay_workflow(await handle.fetch_history())


@pytest.mark.parametrize(
    ("job", "key", "period"),
    [
        (MONTHLY, "2013-11", "2013-12"),
        (DAILY, "2013-11-30", "2013-12-01"),
        (DAILY, "2013-11-30", "x"),
    ],
)
async def test_a_start_whose_key_names_another_period_than_its_input_is_refused(
    raw: Client, database: Database, control: Control, job: str, key: str, period: str
) -> None:
    handle = await begin(raw, job, key, period)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    failure = caught.value.cause
    assert isinstance(failure, ApplicationError)
    assert (failure.type, failure.non_retryable) == ("InvalidPayload", True)
    assert f'"{key}" and "{period}"' in failure.message
    assert control.runs == {}
    await replay(handle, database)  # as a query of the ended run does


async def test_a_key_that_is_no_period_is_accepted_as_before(
    raw: Client, database: Database, control: Control
) -> None:
    handle = await begin(raw, MONTHLY, "by-hand", "2013-12")
    await handle.result()
    await replay(handle, database)


async def test_a_run_that_an_earlier_release_accepted_goes_on_but_counts_for_no_other_period(
    raw: Client,
    app: Client,
    database: Database,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control.holding = {"acme"}
    with monkeypatch.context() as earlier:
        earlier.setattr(Job, "another_period", lambda *_: None)
        handle = await begin(raw, MONTHLY, "2013-11", "2013-12")
        async with asyncio.timeout(20):
            await until(lambda control: bool(control.runs))
    await replay(handle, database)
    control.released.set()
    await handle.result()
    await replay(handle, database)

    request = FanOutInput(job=MONTHLY, tick="2013-11")
    result = await app.execute_workflow(
        FanOut.run, request, id=f"platform/{MONTHLY}/tick-2013-11", task_queue="bulk"
    )
    assert (result.already, result.failed) == (0, 1)
    [row] = await rows_of(database, MONTHLY, "2013-11")
    assert (row.state, row.error_type) == ("failed", "WorkflowIdTaken")
    assert 'is taken by a run for the period "2013-12"' in (row.reason or "")

"""Every entry point reports a run whose id another workflow has taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client

from temporal_tenancy.cli import fan_outs, runs
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.taken_ids import WorkflowIdTaken, own_run
from temporal_tenancy.ticks.fan_out import FanOutInput
from temporal_tenancy.ticks.fan_out.children import FAN_OUT, is_running
from tests.fixtures.jobs.relay_jobs import Noted
from tests.fixtures.web import Web
from tests.library.sdk.test_taken_ids import ID, NOTE, thing
from tests.library.ticks.test_fan_out import JOB


async def test_a_fan_outs_id_that_is_taken_is_no_fan_out_that_runs(
    raw: Client, app: Client
) -> None:
    id = f"platform/{JOB}/tick-a"
    await raw.start_workflow("evil.thing", id=id, task_queue="nobody")
    assert not await is_running(app, id)
    there = cast(Any, SimpleNamespace(client=app))
    with pytest.raises(WorkflowIdTaken, match=r'a run of "evil\.thing"'):
        await fan_outs.start(there, registry[JOB], FanOutInput(job=JOB, tick="a"))
    await raw.get_workflow_handle(id).terminate()
    handle, started = await fan_outs.start(there, registry[JOB], FanOutInput(job=JOB, tick="a"))
    assert started
    assert (await own_run(app, id, FAN_OUT)).run_id == handle.run_id


@pytest.mark.usefixtures("two_tenants")
async def test_a_person_who_runs_a_job_is_told_that_its_id_is_taken(
    raw: Client, app: Client, database: Database
) -> None:
    await thing(raw)
    there = cast(Any, SimpleNamespace(client=app, database=database))
    with pytest.raises(WorkflowIdTaken, match=r'a run of "nobodys\.thing"'):
        await runs._start(there, registry[NOTE], Noted(tenant_id="acme"), ID)


async def test_the_door_shows_no_run_that_is_not_the_jobs(
    raw: Client, web_and_temporal: Web
) -> None:
    await thing(raw, "acme/search.index/k")
    async with web_and_temporal.client("acme") as client:
        assert (await client.get("/jobs/search.index/k")).status_code == 404

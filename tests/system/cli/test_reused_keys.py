"""A key that an earlier run has used with another input is refused by the commands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client

from temporal_tenancy.cli import fan_outs, runs
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.taken_ids import KeyReused
from temporal_tenancy.ticks.fan_out import FanOutInput
from tests.fixtures.jobs.relay_jobs import Noted
from tests.library.ticks.test_fan_out import JOB

NOTE, ID = "test.note", "acme/test.note/k"

pytestmark = pytest.mark.usefixtures("two_tenants")


@pytest.fixture
def there(app: Client, database: Database) -> Any:
    return cast(Any, SimpleNamespace(client=app, database=database))


async def test_a_run_with_the_key_of_another_input_is_refused(there: Any) -> None:
    job, first = registry[NOTE], Noted(tenant_id="acme", text="a")
    handle, state = await runs._start(there, job, first, ID)
    assert state == "started"
    again, state = await runs._start(there, job, Noted(tenant_id="acme", text="a", data=None), ID)
    assert (again.run_id, state) == (handle.run_id, "running")
    with pytest.raises(KeyReused, match=f"was used by run {handle.run_id} .* Use another key"):
        await runs._start(there, job, Noted(tenant_id="acme", text="b"), ID)


async def test_a_run_that_only_the_ledger_knows_as_done_is_compared_while_the_server_has_it(
    there: Any,
) -> None:
    handle, _ = await runs._start(there, registry[NOTE], Noted(tenant_id="acme"), ID)
    for given, id in (
        (Noted(tenant_id="acme"), ID),
        (Noted(tenant_id="acme", text="b"), "acme/x/y"),
    ):
        await runs._require_same_input(there, given, id, handle.run_id)
    with pytest.raises(KeyReused):
        await runs._require_same_input(there, Noted(tenant_id="acme", text="b"), ID, handle.run_id)


@pytest.mark.usefixtures("control")
async def test_a_fan_out_that_runs_for_other_tenants_is_not_followed(there: Any) -> None:
    job = registry[JOB]
    _, started = await fan_outs.start(there, job, FanOutInput(job=JOB, tick="a", window=5))
    assert started
    _, started = await fan_outs.start(there, job, FanOutInput(job=JOB, tick="a", window=9))
    assert not started  # its sizes may have changed with a release
    for other in ({"statuses": [TenantStatus.TRIAL]}, {"extra": {"note": "x"}}):
        request = FanOutInput(job=JOB, tick="a").model_copy(update=other)
        with pytest.raises(KeyReused, match="Wait until that run has ended"):
            await fan_outs.start(there, job, request)

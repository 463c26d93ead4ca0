"""The sweep finds each unreported failure once, and settles letters whose job has succeeded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import PayloadCodec

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.dead_letters.sweep import Sweep, SweepOptions
from temporal_tenancy.postgres.database import Database, use_database
from tests.fixtures.app import app_worker
from tests.fixtures.jobs.fan_out_control import Control
from tests.library.dead_letters.test_dead_letter_recording import messages, rows
from tests.library.dead_letters.test_failed_runs import JOB, failing, letters

UNSUCCESSFUL = "ExecutionStatus IN ('Failed', 'TimedOut', 'Terminated')"


@pytest.fixture(autouse=True)
async def acme(tenants: Tenants, database: Database) -> AsyncIterator[None]:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="enterprise")
    with use_database(database):
        yield


async def find(app: Client, options: SweepOptions | None = None, *, until: float = math.inf) -> int:
    return await Sweep(app, options).find(datetime.now(UTC), until=until)


async def start(
    client: Client, key: str = "1", tenant: str = "acme", **options: Any
) -> WorkflowHandle[Any, Any]:
    given = {"tenant_id": tenant, "note": key}
    return await client.start_workflow(
        JOB, given, id=f"{tenant}/{JOB}/{key}", task_queue="bulk", **options
    )


async def until_listed(app: Client, number: int, query: str = UNSUCCESSFUL) -> None:
    while (await app.count_workflows(query)).count < number:
        """Visibility comes a moment later."""


class LostKey(PayloadCodec):
    """A codec that has lost the key for one kind of payload."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if any(each.data == b'"unreadable"' for each in payloads):
            raise RuntimeError("the key is lost")
        return list(payloads)


async def test_a_failure_that_cannot_be_read_keeps_the_sweep_from_no_other(
    app: Client, database: Database
) -> None:
    for key in ("unreadable", "plain"):
        await (await start(app, key)).terminate(key)
    await until_listed(app, 2)
    config = app.config(active_config=True)
    config["data_converter"] = replace(config["data_converter"], payload_codec=LostKey())
    assert await find(Client(**config)) == 2
    found = {each.workflow_id: each.error_type for each in await letters(database)}
    assert found == {
        f"acme/{JOB}/unreadable": "FailureUnreadable",
        f"acme/{JOB}/plain": "Terminated",
    }


async def test_what_was_terminated_or_timed_out_is_found_once(
    app: Client, database: Database
) -> None:
    terminated = await start(app, "stopped")
    await terminated.terminate(reason="no longer wanted")
    late = await start(app, "late", "globex", execution_timeout=timedelta(milliseconds=1))
    await failing(late)
    await until_listed(app, 2)
    assert [await find(app), await find(app)] == [2, 0]
    one, two = await letters(database)
    assert (one.workflow_id, one.error_type, one.message) == (
        terminated.id, "Terminated", "no longer wanted")  # fmt: skip
    assert (one.run_id, one.source, one.attempts) == (terminated.result_run_id, "workflow", 1)
    assert (two.workflow_id, two.error_type) == (late.id, "Timeout.START_TO_CLOSE")
    assert [each.payload for each in await messages(database)] == [{"note": "stopped"}]
    assert [each.payload for each in await messages(database, "globex")] == [{"note": "late"}]


async def test_two_sweeps_at_once_find_each_once(app: Client, database: Database) -> None:
    for number in range(8):
        await (await start(app, str(number))).terminate()
    await until_listed(app, 8)
    assert sum(await asyncio.gather(find(app), find(app))) == 8
    assert len(await letters(database)) == len(await messages(database)) == 8


async def test_what_a_run_has_recorded_itself_is_not_found_again(
    app: Client, database: Database, control: Control
) -> None:
    control.failing = {"acme"}
    async with app_worker(app):
        await failing(await start(app))
    await until_listed(app, 1)
    assert await find(app) == 0
    assert len(await letters(database)) == 1


async def test_a_wrong_start_and_the_platforms_work_are_nobodys_letters(
    app: Client, database: Database, temporal: TemporalDevServer, namespace: str
) -> None:
    raw = await Client.connect(temporal.address, namespace=namespace)
    starts = [
        ({}, f"acme/{JOB}/none"),
        ({"tenant_id": "globex"}, f"acme/{JOB}/another"),
        ({"tenant_id": "acme"}, "random"),
        ({"tenant_id": "nobody"}, f"nobody/{JOB}/1"),
    ]
    async with app_worker(app):
        for given, id in starts:
            await failing(await raw.start_workflow(JOB, given, id=id, task_queue="bulk"))
    sweep = "platform/dead_letters.sweep/1"
    await (await app.start_workflow("dead_letters.sweep", id=sweep, task_queue="x")).terminate()
    another = await raw.start_workflow(  # whose messages have their own letters
        "works.off", {"tenant_id": "acme"}, id=f"acme/{JOB}/batch", task_queue="x"
    )
    await another.terminate()
    await until_listed(app, 6)
    assert await find(app) == 0
    assert await letters(database) == []


async def test_a_start_whose_input_did_not_fit_is_its_tenants_letter(
    app: Client, database: Database, temporal: TemporalDevServer, namespace: str
) -> None:
    raw = await Client.connect(temporal.address, namespace=namespace)
    given = {"tenant_id": "acme", "note": {"not": "text"}}
    async with app_worker(app):
        await failing(await raw.start_workflow(JOB, given, id=f"acme/{JOB}/1", task_queue="bulk"))
    await until_listed(app, 1)
    assert await find(app) == 1
    [letter] = await letters(database)
    assert letter.error_type == "InvalidPayload"
    assert letter.message.endswith("note: it must be text.")


async def test_what_was_started_again_is_not_found(
    app: Client, database: Database, control: Control
) -> None:
    await (await start(app)).terminate()
    await until_listed(app, 1)
    again = await start(app)
    assert await find(app) == 0
    await again.terminate()
    await until_listed(app, 2)
    assert await find(app) == 1
    [letter] = await letters(database)
    assert letter.run_id == again.result_run_id


SMALL_WINDOWS = SweepOptions(window=3, overlap=timedelta(0), ids_at_once=3)


async def test_many_are_found_window_by_window(app: Client, database: Database) -> None:
    for number in range(20):
        await (await start(app, str(number))).terminate()
    await until_listed(app, 20)
    begun = asyncio.get_running_loop().time()
    assert await find(app, SMALL_WINDOWS, until=begun) == 0  # no time was left
    assert await find(app, SMALL_WINDOWS) == 20
    [position] = await rows(database, "select upto from tenancy.positions")
    assert datetime.now(UTC) - position.upto < timedelta(seconds=60)
    assert await find(app, SMALL_WINDOWS) == 0


async def test_what_has_succeeded_since_is_resolved_and_its_input_forgotten(
    app: Client, database: Database, control: Control
) -> None:
    keys = [*map(str, range(7)), "it's"]
    for key in keys:
        await (await start(app, key)).terminate()
    await until_listed(app, 8)
    assert await find(app, SMALL_WINDOWS) == 8
    sweep = Sweep(app, SMALL_WINDOWS)
    assert await sweep.resolve() == 0
    async with app_worker(app):
        for key in ("0", "5", "it's"):
            await (await start(app, key)).result()
    await until_listed(app, 3, "ExecutionStatus = 'Completed'")
    assert await sweep.resolve() == 3
    resolved = [each for each in await letters(database) if each.status == "resolved"]
    assert sorted(each.workflow_id.split("/")[2] for each in resolved) == ["0", "5", "it's"]
    assert {each.handled_by for each in resolved} == {"dead_letters.sweep"}
    assert len(await messages(database)) == 5


async def test_what_has_succeeded_since_with_another_input_stays_open(
    app: Client, database: Database, control: Control
) -> None:
    for key in ("same", "another", "forgotten"):
        await (await start(app, key)).terminate()
    await until_listed(app, 3)
    assert await find(app) == 3
    # Without the stored input, the failed run's own is compared.
    await rows(
        database,
        "update tenancy.dead_letters set message_id = null where workflow_id like '%forgotten' "
        "returning id",
    )
    async with app_worker(app):
        for key in ("same", "another", "forgotten"):
            note = "another" if key == "same" else "something else"
            given = {"tenant_id": "acme", "note": key if key == "same" else note}
            run = await app.start_workflow(JOB, given, id=f"acme/{JOB}/{key}", task_queue="bulk")
            await run.result()
    await until_listed(app, 3, "ExecutionStatus = 'Completed'")
    assert await Sweep(app).resolve() == 1
    left = {each.workflow_id.split("/")[2]: each.status for each in await letters(database)}
    assert left == {"same": "resolved", "another": "open", "forgotten": "open"}


async def test_what_was_settled_long_ago_is_forgotten(app: Client, database: Database) -> None:
    for key in ("old", "new", "open"):
        await (await start(app, key)).terminate()
    await until_listed(app, 3)
    await find(app)
    await rows(database, "update tenancy.dead_letters set status = 'discarded', handled_at = "
    "now() - "
               "case when workflow_id like '%old' then interval '91 days' else interval '1 day' "
               "end where workflow_id not like '%open' returning id")  # fmt: skip
    assert await Sweep(app).forget(datetime.now(UTC)) == 1
    left = [each.workflow_id.split("/")[2] for each in await letters(database)]
    assert left == ["new", "open"]
    assert len(await messages(database)) == 2


async def test_the_sweep_runs_as_a_job_of_the_platforms(app: Client, database: Database) -> None:
    await (await start(app)).terminate()
    await until_listed(app, 1)
    async with app_worker(app, task_queue="default"):
        swept = await app.execute_workflow(
            "dead_letters.sweep", id="platform/dead_letters.sweep/1", task_queue="default"
        )
    assert swept == {"found": 1, "resolved": 0, "forgotten": 0, "alerts": 1}
    async with database.platform_session("test") as session:
        told = await session.scalar(text("select count(*) from tenancy.dead_letters where told_at "
        "> now() "
                                         "- interval '1 minute'"))  # fmt: skip
    assert told == 1

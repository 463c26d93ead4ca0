"""The main jobs on a real Temporal server that is killed meanwhile.

Not part of the suite: `make test-server` runs it. The first time, it builds the server.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from temporalio.client import Client

from dev import local_saas
from dev.devstack.stack import Stack, without_servers
from dev.devstack.temporal_kinds import KIND_VARIABLE, TemporalKind
from dev.sample_data.airlines import FLIGHTS
from tests.system.faults.campaign import run_scenario
from tests.system.faults.checker import settled
from tests.system.faults.message_campaign import VARIABLES, run_messages
from tests.system.faults.message_scenarios import Kind as MessageKind
from tests.system.faults.message_scenarios import Scenario as MessageScenario
from tests.system.faults.scenarios import JOBS, Fault, Kind, Scenario
from tests.system.faults.servers import Servers, running_servers

JOB = "billing.cycle"
MONTHS = 12
BILLS = 16 * MONTHS  # one for each airline and month
KILLED_AFTER = 40  # bills
LOOK = 0.05  # seconds
SETTLE = 30.0  # seconds that the list of workflows may lag behind the workflows

_INVOICES = "select count(*), coalesce(sum(usage_events), 0)::bigint from invoices"
_TICKS = "select state, count(*) from tenancy.ticks where job = 'billing.cycle' group by state"
_LEDGER = "select state, count(*) from tenancy.ledger where job = 'billing.cycle' group by state"


@pytest.fixture(scope="module", autouse=True)
def kind() -> Iterator[str]:
    """A real server, unless the environment asks for the dev server, to compare."""
    with pytest.MonkeyPatch.context() as patch:
        named = os.environ.get(KIND_VARIABLE) or str(TemporalKind.SERVER)
        patch.setenv(KIND_VARIABLE, named)
        yield named


class Database:
    """What is in the database, for who sees all of it."""

    def __init__(self, stack: Stack) -> None:
        assert stack.postgres is not None
        url = make_url(stack.postgres.superuser_url).set(drivername="postgresql")
        self._url = url.render_as_string(hide_password=False)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self._url) as connection:
            return connection.execute(query.encode()).fetchall()

    def invoices(self) -> int:
        found = self.rows(_INVOICES)[0][0]
        assert isinstance(found, int)
        return found


async def successes(address: str, expected: int) -> Counter[str]:
    """Counts the successful runs of each bill by workflow id, once there are as many."""
    client = await Client.connect(address)
    query = f"WorkflowType = '{JOB}' and ExecutionStatus = 'Completed'"

    async def count() -> Counter[str]:
        return Counter([run.id async for run in client.list_workflows(query)])

    return await settled(count, lambda found: found.total() >= expected, SETTLE)


async def known(address: str) -> tuple[int, list[str]]:
    """Returns how many runs the server knows, and its schedules."""
    client = await Client.connect(address)
    schedules = sorted([schedule.id async for schedule in await client.list_schedules()])
    return (await client.count_workflows("ExecutionStatus = 'Completed'")).count, schedules


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(LOOK)  # other processes send no event


@pytest.mark.timeout(1800)
def test_a_year_of_bills_is_whole_though_the_server_is_killed(tmp_path: Path) -> None:
    """The demo's main job: all airlines, all months, by backfilling the job's schedule."""
    environ = without_servers(os.environ)
    with Stack(tmp_path / "stack", environ=environ, ui=False, outside=True) as stack:
        local_saas.starter(stack, "migrate", "--harden", "--yes", owner=True)
        local_saas.load_sample_data(stack)
        database = Database(stack)
        assert stack.temporal is not None
        with local_saas.worker(stack), local_saas.relay(stack):
            local_saas.starter(stack, "schedules", "apply")
            days = ("--from", "2013-02-01", "--to", "2014-01-01")
            local_saas.starter(stack, "schedules", "backfill", JOB, *days)
            wait_until(lambda: database.invoices() >= KILLED_AFTER)
            stack.temporal.kill()
            before = database.invoices()
            stack.temporal.start()
            assert before < BILLS, "it was over before the server was killed"
            wait_until(lambda: database.rows(_TICKS) == [("ended", MONTHS)])
        assert database.rows(_INVOICES) == [(BILLS, FLIGHTS)]
        assert database.rows(_LEDGER) == [("succeeded", BILLS)]
        found = asyncio.run(successes(stack.temporal.address, BILLS))
        assert (len(found), found.total()) == (BILLS, BILLS), "a bill was lost or made twice"
        kept = asyncio.run(known(stack.temporal.address))
        stack.temporal.stop()
        stack.temporal.start()
        assert asyncio.run(known(stack.temporal.address)) == kept, "a restart in order lost state"


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    directory: Path = tmp_path_factory.mktemp("real-server")
    module = "tests.system.faults.message_process"
    async with running_servers(directory, module=module, warm=None, **VARIABLES) as running:
        yield running


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [4, 18])
async def test_each_message_has_one_effect_though_the_server_is_killed(
    servers: Servers, seed: int
) -> None:
    assert MessageScenario.of(seed).kind is MessageKind.CRASH_TEMPORAL
    outcome = await run_messages(servers, seed)
    assert outcome.problems == []
    assert outcome.at_work


@pytest.fixture(scope="module")
async def saas_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    async with running_servers(tmp_path_factory.mktemp("real-server-ticks")) as running:
        yield running


@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", JOBS)
async def test_a_tick_is_whole_though_the_server_is_killed_twice(
    saas_servers: Servers, job: str
) -> None:
    killed = [
        Fault(Kind.CRASH_TEMPORAL, after=after, workers=0, seconds=0, role="", number=0)
        for after in (1, 4)
    ]
    scenario = Scenario(0, job=job, tick="2013-04", workers=2, faults=tuple(killed))
    outcome = await run_scenario(saas_servers, scenario)
    assert outcome.problems == []
    assert outcome.at_work

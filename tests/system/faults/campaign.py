"""Runs scenarios: a few at once, each lane one after the other on the same servers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from saas.queues import Queue
from temporal_tenancy.control_plane.tables import TickState
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult
from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.checker import Tick, problems
from tests.system.faults.scenarios import WINDOW, Fault, Kind, Scenario
from tests.system.faults.servers import Servers, is_away, running_servers
from tests.system.faults.usage import load_month

BOUNDED: Final = 20  # scenarios
FULL: Final = 200
PATIENCE: Final = 300.0  # seconds per scenario; mostly timeouts after a killed worker
LOOK: Final = 0.02  # seconds
STORM_INTERVAL: Final = 0.05  # seconds between terminations

# A tick's progress: whether it is planned, and for how many tenants it is done. The ledger learns
# of these later, many at once.
_PROGRESS: Final = """
    select (select state from tenancy.ticks where job = %(job)s and tick = %(tick)s) as state,
           exists (select from tenancy.ledger where job = %(job)s and tick = %(tick)s) as planned,
           (select count(*) from invoices where period = %(tick)s and %(job)s = 'billing.cycle')
           +
           (
               select count(distinct tenant_id) from daily_usage
                where to_char(day, 'YYYY-MM') = %(tick)s and %(job)s = 'analytics.aggregate'
           ) as done
"""

Root = WorkflowHandle[FanOut, FanOutResult]


@dataclass(frozen=True)
class Outcome:
    """The result of a scenario."""

    problems: list[str]  # a sentence each
    at_work: bool  # whether the tick was at work whenever something went wrong


def seeds() -> list[int]:
    """Returns the scenarios that the environment selects."""
    if one := os.environ.get("FAULT_SEED"):
        return [int(one)]
    return list(range(FULL if os.environ.get("FULL") else BOUNDED))


def selected_seeds(request: pytest.FixtureRequest) -> list[int]:
    """Returns the scenarios of the requesting module's tests in this run; all if it has none."""
    selected = [
        cast(int, item.callspec.params["seed"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
    ]
    return selected or seeds()


Run = Callable[[Servers, int], Awaitable[Outcome]]


class Campaign:
    """Running scenarios, in lanes.

    A lane has servers of its own, and new ones after a scenario that failed.
    """

    def __init__(
        self,
        directory: Path,
        seeds: Sequence[int],
        run: Run,
        *,
        lanes: int,
        warm: WarmPrograms | None = None,
        **servers: str,
    ) -> None:
        """`run` is what a seed stands for; `warm` and `servers` go to `running_servers`."""
        loop = asyncio.get_running_loop()
        self.seeds = seeds
        self._directory = directory
        self._run = run
        self._warm = warm
        self._servers = servers
        self._outcomes: dict[int, asyncio.Future[Outcome]] = {
            seed: loop.create_future() for seed in seeds
        }
        self._exit_codes: list[int] = []
        self._lanes = [
            asyncio.create_task(self._run_lane([seed for seed in seeds if seed % lanes == lane]))
            for lane in range(lanes)
        ]

    async def outcome(self, seed: int) -> Outcome:
        """Returns a scenario's result once it has ended."""
        return await asyncio.shield(self._outcomes[seed])

    async def exit_codes(self) -> list[int]:
        """Returns those of who was asked to end behind the last scenario."""
        await asyncio.gather(*self._lanes)
        return self._exit_codes

    async def abandon(self) -> None:
        """Ends everything that still runs, including the servers."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _run_lane(self, seeds: list[int]) -> None:
        try:
            while seeds:
                await self._run_on_new_servers(seeds)
        except Exception as error:
            for seed in seeds:
                self._outcomes[seed].set_exception(error)
            raise

    async def _run_on_new_servers(self, seeds: list[int]) -> None:
        """Takes scenarios off `seeds` up to the first that fails."""
        directory = self._directory / f"servers-of-{seeds[0]}"
        directory.mkdir()
        async with running_servers(directory, warm=self._warm, **self._servers) as servers:
            while seeds:
                outcome = await self._run(servers, seeds[0])
                self._outcomes[seeds.pop(0)].set_result(outcome)
                if outcome.problems:
                    return
            self._exit_codes += await servers.stop_processes()


async def run_tick(servers: Servers, seed: int) -> Outcome:
    """Runs the tick of a seed while things go wrong, and checks its result."""
    return await run_scenario(servers, Scenario.of(seed))


async def run_scenario(servers: Servers, scenario: Scenario) -> Outcome:
    """Runs a tick while things go wrong, and checks its result."""
    at_work = True
    found: list[str] = []
    with noting(found):
        async with asyncio.timeout(PATIENCE):
            await servers.have_workers(scenario.workers)
            await load_month(servers.database, servers.tenants, scenario.tick)
            root = await _start(servers, scenario)
            for fault in scenario.faults:
                at_work &= await _until_done(servers, scenario, fault.after)
                at_work &= await _strike(servers, fault, root)
                await servers.have_workers(scenario.workers)
            found += _in_result(servers, scenario, await _result(root))
    found += ended_by_themselves(servers)
    with noting(found):
        async with servers.everything() as everything:
            tick = Tick(scenario.job, scenario.tick)
            found += await problems(everything, servers.client, tick)
    return Outcome(found, at_work)


def ended_by_themselves(servers: Servers) -> list[str]:
    """Returns the problems of workers and relays that no fault has ended."""
    return [
        f"a process has ended by itself: {running.process.log_tail()}"
        for running in servers.processes
        if not running.process.running
    ]


@contextmanager
def noting(found: list[str]) -> Iterator[None]:
    """Appends the block's exception to the problems."""
    try:
        yield
    except TimeoutError as error:
        found.append(f"it did not end in time: {error}")
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")


async def _start(servers: Servers, scenario: Scenario) -> Root:
    return await servers.client.start_workflow(
        FanOut.run,
        FanOutInput(job=scenario.job, tick=scenario.tick, window=WINDOW),
        id=f"platform/{scenario.job}/tick-{scenario.tick}",
        task_queue=Queue.BULK,
    )


async def _until_done(servers: Servers, scenario: Scenario, count: int) -> bool:
    """Returns once that many tenants are done: whether the tick is still at work."""
    tick = {"job": scenario.job, "tick": scenario.tick}
    async with servers.everything() as everything:
        while True:
            progress = await (await everything.execute(_PROGRESS, tick)).fetchone()
            assert progress is not None
            if progress["state"] not in (None, TickState.RUNNING):
                return False
            if progress["planned"] and progress["done"] >= count:
                return True
            await asyncio.sleep(LOOK)


async def _strike(servers: Servers, fault: Fault, root: Root) -> bool:
    """Causes one fault, and repairs what does not recover; returns whether it hit."""
    match fault.kind:
        case Kind.KILL_WORKERS:
            await servers.kill_workers(fault.workers)
        case Kind.CRASH_TEMPORAL:
            await servers.crash_temporal()
        case Kind.CRASH_POSTGRES:
            await servers.crash_postgres()
        case Kind.TERMINATE_SESSIONS:
            until = time.monotonic() + fault.seconds
            while time.monotonic() < until:
                await servers.terminate_sessions()
                await asyncio.sleep(STORM_INTERVAL)
        case Kind.CUT_COMMIT:
            return await _cut_commit(servers, fault, root)
    return True


async def _cut_commit(servers: Servers, fault: Fault, root: Root) -> bool:
    servers.proxy.arm(fault.role, fault.number)
    ends = [asyncio.create_task(servers.proxy.cut.wait()), asyncio.create_task(_result(root))]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        servers.proxy.disarm()
    return servers.proxy.cut.is_set()


async def _result(root: Root) -> FanOutResult:
    while True:
        try:
            return await root.result()
        except RPCError as error:
            if not is_away(error):
                raise


def _in_result(servers: Servers, scenario: Scenario, result: FanOutResult) -> list[str]:
    """Checks the fan-out's result: no failures, and only tenants without the feature skipped."""
    free = servers.tenants[::3] if scenario.job == "analytics.aggregate" else []
    expected = (len(servers.tenants) - len(free), 0, len(free), 0)
    counts = (result.succeeded, result.failed, result.skipped, result.already)
    if counts == expected:
        return []
    return [f"succeeded, failed, skipped, already: {counts}, not {expected}; {result.failures}."]

"""Does throughput recover after a fault, and procrastinate's beside it?

Small jobs are enqueued at a steady rate of 60 a second in each arm: ours go through two relays to
two workers, procrastinate's to two workers, all of them processes on the same servers; a process
that ends is restarted. 6 seconds after each fault, the jobs completed in 5 seconds are counted, and
divided by those of 5 seconds before the first fault. A ratio above 1 means that a backlog is being
worked off. The faults, one after the other: one of the two relays is killed; a worker of each arm
is killed; every connection is terminated; PostgreSQL crashes (`stop -m immediate`) and recovers.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import psycopg

from benchmarks.outbox.outbox_stack import Outbox, driver_url, outbox
from benchmarks.outbox.procrastinate_peer import peer
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, tell
from benchmarks.shared.servers import Servers
from dev.devstack.processes import OwnedProcess

NAME: Final = "relay_recovery"
GOAL: Final = Goal(">=", 0.95)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = ("t0", "t1", "t2")
AT_A_TIME: Final = 10  # jobs of one tenant per request, in each arm
EVERY: Final = 1 / 6  # seconds between requests, one tenant after the other
GRACE: Final = 6.0  # seconds after a fault
WINDOW: Final = 5.0  # seconds in which completed jobs are counted
PATIENCE: Final = 5.0  # seconds; timeout of a request

_DONE: Final = {Arm.OURS: "audit_entries", Arm.PEER: "bench_plain_entries"}
_TERMINATE: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where pid <> pg_backend_pid() and datname = current_database() and usename <> 'postgres'
"""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about a minute."""
    async with outbox(servers, NAME, TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        starts = {
            "relay": partial(ours.process, "relay"),
            "worker": partial(ours.process, "small"),
            "their worker": partial(ours.process, "worker", module="procrastinate_peer"),
        }
        processes = {role: [await start(), await start()] for role, start in starts.items()}

        async def kill_relay() -> None:
            processes["relay"].pop().kill()

        async def kill_workers() -> None:
            processes["worker"][0].kill()
            processes["their worker"][0].kill()

        async def terminate() -> None:
            async with _everything(ours) as connection:
                await connection.execute(_TERMINATE)

        async def crash() -> None:
            await asyncio.to_thread(servers.crash_postgres)

        faults: dict[str, Callable[[], Awaitable[None]]] = {
            "relay_killed": kill_relay,
            "worker_killed": kill_workers,
            "connections_cut": terminate,
            "postgres_crashed": crash,
        }
        inputs = [{"number": 1}] * AT_A_TIME
        beside = [
            asyncio.create_task(_ask_steadily(ask))
            for ask in (
                lambda tenant: ours.ask(tenant, "bench.small", inputs),
                lambda tenant: other.ask(tenant, inputs),
            )
        ]
        beside.append(asyncio.create_task(_supervise(starts, processes)))
        try:
            return await _measure(ours, faults)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


async def _measure(
    ours: Outbox, faults: dict[str, Callable[[], Awaitable[None]]]
) -> Sequence[Answer]:
    await asyncio.sleep(GRACE)
    # Anything above the request rate is backlog.
    before = {arm: min(rate, AT_A_TIME / EVERY) for arm, rate in (await _rates(ours)).items()}
    found = []
    for name, fault in faults.items():
        await fault()
        await asyncio.sleep(GRACE)
        after = await _rates(ours)
        comparison = Comparison()
        comparison.add({Arm.OURS: after[Arm.OURS], Arm.PEER: before[Arm.OURS]})
        of_peer = after[Arm.PEER] / before[Arm.PEER]
        tell(
            f"{NAME}: {name}: {comparison.ratio:.2f} of the rate before, "
            f"procrastinate {of_peer:.2f}"
        )
        found.append(
            Answer(
                f"{NAME}.{name}",
                "itself before the first fault",
                GOAL,
                "jobs/s",
                comparison,
                {"procrastinate": of_peer},
            )
        )
    return found


async def _ask_steadily(ask: Callable[[str], Awaitable[None]]) -> None:
    """Enqueues jobs at a steady rate, as far as the faults allow."""
    due = time.monotonic()
    for tenant in itertools.cycle(TENANTS):
        try:
            async with asyncio.timeout(PATIENCE):
                await ask(tenant)
        except Exception as error:  # any error that a fault causes, in either arm
            tell(f"{NAME}: a request failed: {type(error).__name__}")
        due += EVERY
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _supervise(
    starts: Mapping[str, Callable[[], Awaitable[OwnedProcess]]],
    processes: Mapping[str, list[OwnedProcess]],
) -> None:
    """Restarts processes that have ended, as a supervisor does."""
    while True:
        for role, running in processes.items():
            for place, process in enumerate(running):
                if not process.running:
                    tell(f"{NAME}: a process has ended and is restarted: {role}")
                    running[place] = await starts[role]()
        await asyncio.sleep(EVERY)


async def _rates(ours: Outbox) -> dict[Arm, float]:
    """Returns the completed jobs per second of each arm."""
    began, first = time.monotonic(), await _done(ours)
    await asyncio.sleep(WINDOW)
    last, took = await _done(ours), time.monotonic() - began
    return {arm: (last[arm] - first[arm]) / took for arm in Arm}


async def _done(ours: Outbox) -> dict[Arm, int]:
    counted = {}
    async with _everything(ours) as connection:
        for arm, table in _DONE.items():
            cursor = await connection.execute(f"select count(*) from {table}".encode())
            row = await cursor.fetchone()
            assert row is not None
            counted[arm] = int(row[0])
    return counted


@asynccontextmanager
async def _everything(ours: Outbox) -> AsyncIterator[psycopg.AsyncConnection]:
    """Opens a new connection as the superuser, since the faults close existing ones."""
    async with await psycopg.AsyncConnection.connect(
        driver_url(ours.urls.superuser), autocommit=True
    ) as connection:
        yield connection

"""Does throughput come back after a fault, and procrastinate's beside it?

Small jobs are asked for at a steady rate, 60 a second each way: ours by way of two relays to two
workers, procrastinate's to two workers, every one a process on the same servers. After each fault 6
seconds pass; then the jobs that are done in 5 seconds are counted, by those of 5 seconds before the
first fault. What was left over adds to it, so a ratio above 1 is work that is made up for. The
faults, one after the other: a relay is killed, and the other goes on alone; a worker of each is
killed, and another started; every connection of theirs is terminated; PostgreSQL crashes (`stop -m
immediate`) and recovers.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import psycopg

from benchmarks.measure import Answer, Arm, Comparison, Goal, tell
from benchmarks.outbox_stack import Outbox, outbox, plain
from benchmarks.procrastinate_peer import peer
from benchmarks.servers import Servers
from devstack.processes import OwnedProcess

NAME: Final = "relay_recovery"
GOAL: Final = Goal(">=", 0.95)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = ("t0", "t1", "t2")
AT_A_TIME: Final = 10  # jobs of a tenant that are asked for together, each way
EVERY: Final = 1 / 6  # seconds, one tenant after the other
GRACE: Final = 6.0  # seconds after a fault
WINDOW: Final = 5.0  # seconds
PATIENCE: Final = 5.0  # seconds that a request may take

_DONE: Final = {Arm.OURS: "audit_entries", Arm.PEER: "bench_plain_entries"}
_TERMINATE: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where pid <> pg_backend_pid() and datname = current_database() and usename <> 'postgres'
"""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about a minute."""
    async with outbox(servers, NAME, TENANTS) as ours, peer(ours) as other:
        await ours.has_history()
        relays = [await ours.process("relay") for _ in range(2)]
        workers = [await ours.process("small") for _ in range(2)]
        theirs = [await _their_worker(ours) for _ in range(2)]

        async def kill_relay() -> None:
            relays[0].kill()

        async def kill_workers() -> None:
            _kill(workers[0], theirs[0])
            workers[0], theirs[0] = await ours.process("small"), await _their_worker(ours)

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
        asking = [
            asyncio.create_task(_ask_steadily(ask))
            for ask in (
                lambda tenant: ours.ask(tenant, "bench.small", inputs),
                lambda tenant: other.ask(tenant, inputs),
            )
        ]
        try:
            return await _measure(ours, faults)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _measure(
    ours: Outbox, faults: dict[str, Callable[[], Awaitable[None]]]
) -> Sequence[Answer]:
    await asyncio.sleep(GRACE)
    before = await _rates(ours)
    found = []
    for name, fault in faults.items():
        await fault()
        await asyncio.sleep(GRACE)
        after = await _rates(ours)
        comparison = Comparison()
        comparison.add({Arm.OURS: after[Arm.OURS], Arm.PEER: before[Arm.OURS]})
        of_peer = after[Arm.PEER] / before[Arm.PEER]
        tell(f"{NAME}: {name}: {comparison.ratio:.2f} of before, procrastinate {of_peer:.2f}")
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
    """Asks for jobs at a steady rate, as well as the faults allow."""
    due = time.monotonic()
    for tenant in itertools.cycle(TENANTS):
        try:
            async with asyncio.timeout(PATIENCE):
                await ask(tenant)
        except Exception as error:  # whatever a fault makes of it, on either side
            tell(f"{NAME}: not asked: {type(error).__name__}")
        due += EVERY
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _rates(ours: Outbox) -> dict[Arm, float]:
    """Jobs a second that are done in each arm."""
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
    """A new connection as the superuser: the faults cut those that there are."""
    async with await psycopg.AsyncConnection.connect(
        plain(ours.urls.superuser), autocommit=True
    ) as connection:
        yield connection


async def _their_worker(ours: Outbox) -> OwnedProcess:
    return await ours.process("worker", module="procrastinate_peer")


def _kill(*processes: OwnedProcess) -> None:
    for process in processes:
        process.kill()

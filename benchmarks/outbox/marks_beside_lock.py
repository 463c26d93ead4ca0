"""Does a tenant that holds row locks delay the marking of other tenants' messages?

A relay takes 1,200 messages of four tenants and starts no workflows, so that only its own work is
measured. Ours: one of the tenants locks all its rows as soon as they are claimed, and keeps the
locks until the others' messages are marked. Peer: the same without the locks. Measured: the seconds
until every message of the other three tenants is marked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import psycopg
from temporalio.client import Client

from benchmarks.outbox.outbox_stack import (
    LOOK,
    Connection,
    Outbox,
    driver_url,
    outbox,
    running,
    value_of,
)
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy.outbox import RelayOptions, RetryLadder, Unit

NAME: Final = "marks_beside_lock"
GOAL: Final = Goal("<=", 1.5)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = tuple(f"t{number}" for number in range(4))
LOCKER: Final = TENANTS[0]
MESSAGES: Final = 1_200

_ASK: Final = f"""
    insert into tenancy.outbox_messages (tenant_id, job, payload)
    select 't' || n %% {len(TENANTS)}, 'bench.started', '{{}}' from generate_series(1, %s) as n
"""
_LOCK: Final = f"select from tenancy.outbox_messages where tenant_id = '{LOCKER}' for update"
_OTHERS: Final = f"""
    select count(*) from tenancy.outbox_messages
    where tenant_id <> '{LOCKER}' and status in ('pending', 'failed', 'processing')
"""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 20 s on two cores."""
    comparison = Comparison()
    async with outbox(servers, NAME, TENANTS) as ours:
        await ours.has_history()
        client = await ours.client()
        async with await psycopg.AsyncConnection.connect(driver_url(ours.urls.superuser)) as locker:
            await _seconds(ours, client, locker, Arm.PEER)
            for order in turns(rounds(5, full=15)):
                comparison.add({arm: await _seconds(ours, client, locker, arm) for arm in order})
                beside, alone = comparison.ours[-1], comparison.peer[-1]
                tell(f"{NAME}: {beside:.2f} s beside a held lock, {alone:.2f} s alone")
    return [Answer(NAME, "the same without a lock", GOAL, "s", comparison)]


async def _seconds(ours: Outbox, client: Client, locker: Connection, arm: Arm) -> float:
    """Returns the seconds until every message of the other tenants is marked."""
    await ours.everything.execute(_ASK.encode(), [MESSAGES])
    await ours.everything.execute("vacuum (analyze) tenancy.outbox_messages")
    locking = asyncio.Lock()
    locked = arm is Arm.PEER

    async def lock(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        nonlocal locked
        if unit.tenant_id == LOCKER and not locked:
            async with locking:
                if not locked:
                    await locker.execute(_LOCK.encode())
                    locked = True

    began = time.perf_counter()
    async with running(ours.relay(client, RelayOptions(), deliver=lock)):
        while await value_of(ours.everything, _OTHERS):  # noqa: ASYNC110  # rows send no event
            await asyncio.sleep(LOOK)
        took = time.perf_counter() - began
        assert locked
        await locker.rollback()
        await ours.until_worked_off()
    return took

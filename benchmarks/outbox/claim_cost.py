"""What does a claim cost when one tenant has a backlog of 1,000,000 messages?

Ours: a database in which one tenant has 1,000,000 waiting messages (FULL=1; otherwise 200,000) and
a hundred others have five each. Peer: one in which the large tenant has 1,000. A claim consists of
the relay's statements: list the waiting tenants, compute each one's quota, and claim each of 64
tenants' share of messages by weight. `claim_cost_alone` is a claim of 256 messages of the large
tenant. Every claim is rolled back, and the arms take turns. Both databases are analysed once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from statistics import median
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.outbox.outbox_stack import Outbox, outbox
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy import Tenant
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.outbox import RelayOptions
from temporal_tenancy.outbox.relay import admission, queue
from temporal_tenancy.outbox.relay.relay import TENANTS_AT_ONCE

NAME: Final = "claim_cost"
ALONE: Final = f"{NAME}_alone"
GOAL: Final = Goal("<=", 1.5)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
LARGE: Final = "large"
SMALL: Final = tuple(f"small-{number:02}" for number in range(100))
OF_SMALL: Final = 5  # messages
CLAIMS: Final = 5  # per arm and round
ROOM: Final = RelayOptions().batch
LEASE: Final = timedelta(seconds=60)

_FILL: Final = """
    insert into tenancy.outbox_messages (tenant_id, job, key, payload)
    select %s, 'bench.small', n, '{"number": 1}' from generate_series(1, %s) as n
"""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 20 s on two cores, a minute with FULL=1."""
    many = 1_000_000 if is_full() else 200_000
    found = {name: Comparison() for name in (NAME, ALONE)}
    async with AsyncExitStack() as stack:
        databases = {
            arm: await stack.enter_async_context(outbox(servers, f"{NAME}_{arm}", [LARGE, *SMALL]))
            for arm in Arm
        }
        for arm, how_many in ((Arm.OURS, many), (Arm.PEER, 1_000)):
            await _fill(databases[arm], how_many)
        records = {arm: await _records(database) for arm, database in databases.items()}
        for number, order in enumerate(turns(rounds(15, full=60) + 1)):
            of_all = {arm: await _claims(databases[arm], records[arm]) for arm in order}
            of_one = {arm: await _claims(databases[arm], None) for arm in order}
            if number:
                found[NAME].add(of_all)
                found[ALONE].add(of_one)
    for name, comparison in found.items():
        tell(
            f"{name}: {median(comparison.ours):.2f} ms with {many:,} waiting, "
            f"{median(comparison.peer):.2f} ms with 1,000"
        )
    peer = "a claim with a backlog of 1,000"
    return [
        Answer(name, peer, GOAL, "ms, a claim", comparison, {"waiting": many})
        for name, comparison in found.items()
    ]


async def _fill(database: Outbox, how_many: int) -> None:
    for tenant, messages in ((LARGE, how_many), *((small, OF_SMALL) for small in SMALL)):
        await database.everything.execute(_FILL, [tenant, messages])
    await database.everything.execute("vacuum (analyze) tenancy.outbox_messages")


async def _records(database: Outbox) -> Mapping[str, Tenant]:
    directory = ControlPlaneDirectory(database.relay_database)
    return {tenant.id: tenant for tenant in await directory.find_many([LARGE, *SMALL])}


async def _claims(database: Outbox, records: Mapping[str, Tenant] | None) -> float:
    """Returns a claim's median time in milliseconds; without `records`, the large tenant's only."""
    taken = []
    for _ in range(CLAIMS):
        async with database.relay_database.platform_session("measure a claim") as session:
            began = time.perf_counter()
            quotas = {LARGE: ROOM} if records is None else await _shares(session, records)
            claimed = await queue.claim(session, quotas, lease=LEASE)
            taken.append((time.perf_counter() - began) * 1000)
            await session.rollback()
        assert LARGE in {message.tenant_id for message in claimed}
        assert len(claimed) >= (ROOM if records is None else TENANTS_AT_ONCE), len(claimed)
    return median(taken)


async def _shares(session: AsyncSession, records: Mapping[str, Tenant]) -> Mapping[str, int]:
    tenants = await queue.waiting_tenants(session, after="", limit=TENANTS_AT_ONCE)
    allowed = await admission.allowances(session, tenants, records, room=ROOM, partial=True)
    return {tenant: allowance.quota for tenant, allowance in allowed.items()}

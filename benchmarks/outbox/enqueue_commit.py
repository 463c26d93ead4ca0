"""What does it cost a transaction to ask for a job as well?

Ours is a `tenant_session()` that adds an audit entry and enqueues a job, the peer one that only
adds the entry, each from begin to commit. A round is 25 of each in turns, and takes the median of
both. The server does without fsync here, so that a commit is as cheap as it can be, and what the
job adds weighs the more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from sqlalchemy import text

from benchmarks.outbox.outbox_effects import ADD_ENTRY
from benchmarks.outbox.outbox_stack import outbox
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy import TenantScope, enter, tenant_session, use_database
from temporal_tenancy.outbox import enqueue

NAME: Final = "enqueue_commit"
GOAL: Final = Goal("<=", 2.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANT: Final = "acme"
PAIRS: Final = 25  # transactions of each arm in a round

_ADD: Final = text(ADD_ENTRY.format(table="audit_entries", tenant=":tenant", subject=":subject"))


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; a few seconds."""
    comparison = Comparison()
    async with outbox(servers, NAME, [TENANT]) as ours:
        await ours.has_history()
        with use_database(ours.database), enter(TenantScope(TENANT)):
            for number in range(rounds(20, full=100) + 1):
                taken: dict[Arm, list[float]] = {arm: [] for arm in Arm}
                for order in turns(PAIRS):
                    for arm in order:
                        taken[arm].append(await _transaction(with_job=arm is Arm.OURS))
                if number:
                    comparison.add({arm: median(times) for arm, times in taken.items()})
    more = median(comparison.ours) - median(comparison.peer)
    tell(f"{NAME}: a job adds {more:.2f} ms to {median(comparison.peer):.2f} ms")
    peer = "the same transaction without a job"
    return [Answer(NAME, peer, GOAL, "ms, p50 of a transaction", comparison, {"added_ms": more})]


async def _transaction(*, with_job: bool) -> float:
    """Milliseconds of one transaction."""
    began = time.perf_counter()
    async with tenant_session() as session:
        await session.execute(_ADD, {"tenant": TENANT, "subject": "1"})
        if with_job:
            await enqueue("bench.started", {})
    return (time.perf_counter() - began) * 1000

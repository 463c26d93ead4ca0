"""What does enqueueing a job add to a transaction?

Ours: a `tenant_session()` that adds an audit entry and enqueues a job. Peer: one that only adds the
entry. Both are measured from begin to commit. A round runs 25 of each in turns, and takes each
arm's median. The server runs without fsync, which makes commits as cheap as possible and the job's
share as large as possible.
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
PAIRS: Final = 25  # transactions per arm and round

_ADD: Final = text(ADD_ENTRY.format(table="audit_entries", tenant=":tenant", subject=":subject"))


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; a few seconds."""
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
    """Runs one transaction; returns its milliseconds."""
    began = time.perf_counter()
    async with tenant_session() as session:
        await session.execute(_ADD, {"tenant": TENANT, "subject": "1"})
        if with_job:
            await enqueue("bench.started", {})
    return (time.perf_counter() - began) * 1000

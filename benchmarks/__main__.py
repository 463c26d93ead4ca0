"""`python -m benchmarks`: measures every question, and prints one line of JSON per answer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from benchmarks.fairness import blocked_tenant, fairness_order, fairness_wait
from benchmarks.fan_out import fan_out_cost, fan_out_starts, fan_out_stuck, fan_out_throughput
from benchmarks.imports import import_memory, import_throughput
from benchmarks.isolation import (
    activity_overhead,
    many_databases,
    row_level_security,
    session_of_ten,
)
from benchmarks.observing import everything_on
from benchmarks.outbox import (
    claim_cost,
    enqueue_and_claim,
    enqueue_commit,
    marks_beside_lock,
    payments_under_flood,
    pickup_latency,
    poison,
    relay_recovery,
    relay_throughput,
    small_jobs,
)
from benchmarks.processes import (
    idle_connections,
    shared_state,
    worker_memory,
    worker_pollers,
    worker_slots,
)
from benchmarks.shared.asking import print_answers
from benchmarks.shared.measure import Answer, is_full, tell, write_logs_away
from benchmarks.shared.servers import Servers, running_servers, temporal_kind
from benchmarks.stores import store_migrations
from dev.devstack import eventloop
from dev.devstack.errors import PartMissing
from dev.devstack.signals import orderly_stop
from temporal_tenancy.cli import exit_process
from temporal_tenancy.sdk import forward_core_logs


class Question(Protocol):
    """The interface of a question's module."""

    @property
    def NAME(self) -> str:
        """The name in the answers, where a suffix may follow it."""

    @property
    def TEMPORAL_CONFIG(self) -> dict[str, str]:
        """Dynamic configuration of its Temporal server: setting name to JSON value."""

    async def answers(self, servers: Servers) -> Sequence[Answer]:
        """Measures, and returns one or more answers."""


QUESTIONS: Final[tuple[Question, ...]] = (
    row_level_security,
    session_of_ten,
    many_databases,
    activity_overhead,
    fan_out_cost,
    fan_out_starts,
    fan_out_stuck,
    fan_out_throughput,
    fairness_wait,
    fairness_order,
    blocked_tenant,
    worker_pollers,
    worker_slots,
    worker_memory,
    import_throughput,
    import_memory,
    small_jobs,
    relay_throughput,
    enqueue_and_claim,
    claim_cost,
    enqueue_commit,
    pickup_latency,
    relay_recovery,
    marks_beside_lock,
    poison,
    payments_under_flood,
    idle_connections,
    shared_state,
    everything_on,
    store_migrations,
)

# Left out unless FULL=1 or -k asks for them, so that the others end within a quarter of an hour.
LONG: Final[tuple[Question, ...]] = (
    many_databases,
    fan_out_cost,
    fan_out_starts,
    fan_out_stuck,
    worker_pollers,
    relay_recovery,
    everything_on,
    store_migrations,
)


def main() -> int:
    """Returns 0 if every goal holds, 1 if one does not or has no answer, 2 or 3 if nothing ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "-k", metavar="NAME", default="", help="only questions whose name contains this"
    )
    wanted = parser.parse_args().k
    chosen = [question for question in QUESTIONS if wanted in question.NAME]
    if not wanted and not is_full():
        chosen = [question for question in chosen if question not in LONG]
        tell(f"left out without FULL=1: {', '.join(question.NAME for question in LONG)}.")
    if not chosen:
        names = ", ".join(question.NAME for question in QUESTIONS)
        tell(f"no question has {wanted!r} in its name. Choose from: {names}.")
        return 2
    forward_core_logs()  # keeps standard output for the answers
    write_logs_away()
    try:
        with orderly_stop():
            all_hold = print_answers(chosen, _ask, temporal=temporal_kind())
    except PartMissing as error:
        tell(str(error))
        return 3
    return 0 if all_hold else 1


def _ask(question: Question) -> Sequence[Answer]:
    with running_servers(question.TEMPORAL_CONFIG) as servers:
        # On its own thread, so that a signal leaves this block at once. A worker that is cancelled
        # in the middle of its work would delay it.
        return eventloop.run(partial(question.answers, servers))


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as stopped:  # by a signal or an invalid argument
        code = stopped.code if isinstance(stopped.code, int) else 1
    exit_process(code)

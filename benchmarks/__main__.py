"""`python -m benchmarks`: asks every question, and prints one line of JSON for each answer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from benchmarks.fairness import blocked_tenant, fairness_order, fairness_wait
from benchmarks.fan_out import fan_out_cost, fan_out_starts, fan_out_stuck, fan_out_throughput
from benchmarks.imports import import_memory, import_throughput
from benchmarks.isolation import activity_overhead, row_level_security
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
from benchmarks.processes import idle_connections, worker_memory, worker_slots
from benchmarks.shared.measure import Answer, tell, write_logs_away
from benchmarks.shared.servers import Servers, running_servers
from dev.devstack import eventloop
from dev.devstack.errors import PartMissing
from dev.devstack.signals import orderly_stop
from processes.lifecycle.core_logs import forward_core_logs
from processes.lifecycle.process_exit import exit_process


class Question(Protocol):
    """What a module of a question has."""

    @property
    def NAME(self) -> str:
        """What it is called in the answers, perhaps with more behind it."""

    @property
    def TEMPORAL_CONFIG(self) -> dict[str, str]:
        """Settings of the Temporal server it is asked on."""

    async def answers(self, servers: Servers) -> Sequence[Answer]:
        """Measures."""


QUESTIONS: Final[tuple[Question, ...]] = (
    row_level_security,
    activity_overhead,
    fan_out_cost,
    fan_out_starts,
    fan_out_stuck,
    fan_out_throughput,
    fairness_wait,
    fairness_order,
    blocked_tenant,
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
)


def main() -> int:
    """Returns 0 when every goal holds, 1 when one does not, 2 or 3 when nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-k", metavar="NAME", default="", help="only questions with this in them")
    wanted = parser.parse_args().k
    chosen = [question for question in QUESTIONS if wanted in question.NAME]
    if not chosen:
        names = ", ".join(question.NAME for question in QUESTIONS)
        tell(f"there is no question {wanted!r}. There are: {names}.")
        return 2
    forward_core_logs()  # standard output is for the answers
    write_logs_away()
    all_hold = True
    try:
        with orderly_stop():
            for question in chosen:
                for answer in _ask(question):
                    print(answer.line(), flush=True)
                    all_hold &= answer.holds
    except PartMissing as error:
        tell(str(error))
        return 3
    return 0 if all_hold else 1


def _ask(question: Question) -> Sequence[Answer]:
    with running_servers(question.TEMPORAL_CONFIG) as servers:
        # On a thread of its own: a signal then leaves this block at once, where a worker that is
        # cancelled in the midst of its work would keep it.
        return eventloop.run(partial(question.answers, servers))


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as stopped:  # by a signal, or over the arguments
        code = stopped.code if isinstance(stopped.code, int) else 1
    exit_process(code)

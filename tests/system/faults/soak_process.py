"""worker.py with all jobs of the reference SaaS and the counted ones, for the soak."""

from __future__ import annotations

import sys
from typing import Final

from activities import ACTIVITIES
from processes.worker import slots
from processes.worker.command import main
from temporal_tenancy.cli import exit_process
from tests.system.faults import message_jobs
from tests.system.faults.message_process import OPTIONS, shorten_waits
from workflows import WORKFLOWS

# A worker makes a thread for each task that it runs at once, when there is one more than ever, and
# keeps it. With so few slots all threads are there before the warm-up is over; what comes then is
# a leak.
TASKS: Final = 10


def have_few_slots() -> None:
    """Has each queue run fewer workflow tasks at once."""
    assert "WORKFLOW_TASKS" in vars(slots)
    vars(slots)["WORKFLOW_TASKS"] = TASKS


if __name__ == "__main__":
    shorten_waits()
    have_few_slots()
    exit_process(
        main(
            sys.argv[1:],
            workflows=[*WORKFLOWS, *message_jobs.WORKFLOWS],
            activities=[*ACTIVITIES, *message_jobs.ACTIVITIES],
            relaying=OPTIONS,
        )
    )

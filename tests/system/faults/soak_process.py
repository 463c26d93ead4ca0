"""worker.py with all jobs of the reference SaaS and the counted ones, for the soak."""

from __future__ import annotations

import sys

from activities import ACTIVITIES
from processes.worker.command import main
from temporal_tenancy.cli import exit_process
from tests.system.faults import message_jobs
from tests.system.faults.message_process import OPTIONS, shorten_waits
from workflows import WORKFLOWS

if __name__ == "__main__":
    shorten_waits()
    exit_process(
        main(
            sys.argv[1:],
            workflows=[*WORKFLOWS, *message_jobs.WORKFLOWS],
            activities=[*ACTIVITIES, *message_jobs.ACTIVITIES],
            relaying=OPTIONS,
        )
    )
